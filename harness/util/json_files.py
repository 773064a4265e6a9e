"""JSON that others may have written: read with a bound on its size, its depth and its numbers."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 2**24
"""Of a file, unless said otherwise: a hundred times as much as the largest record has."""

DEEPEST = 64
"""Levels of lists and objects: what people write has few, and what walks through the data recurses."""

_DIGITS = 300  # of a whole number: what has more overflows where a float is made of it


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The JSON of a file of at most `most` bytes. Raises OSError where it cannot be read, and ValueError, with what is
    wrong, for what is no regular file, larger, or not to be had by `parsed_json`."""
    return parsed_json(read_bounded(path, most))


def read_bounded(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file. Raises ValueError for a pipe, a device, a folder, and more than `most` bytes."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise ValueError(f"it is larger than {most >> 20} MiB" if most >> 20 else f"it is larger than {most} bytes")
    return raw


def parsed_json(text: str | bytes, finite: bool = True) -> Any:
    """The data of a JSON text. Raises ValueError, with what is wrong, for anything else, text that is not UTF-8, more
    than `DEEPEST` levels, whole numbers of more than 300 digits, and (unless not `finite`) NaN and infinity."""
    try:
        data = json.loads(
            text if isinstance(text, str) else text.decode(),
            parse_int=_whole,
            parse_float=_real if finite else float,
            parse_constant=_refused if finite else float,
        )
    except RecursionError:
        raise ValueError(f"it has more than {DEEPEST} levels") from None
    if _deeper_than(DEEPEST, data):
        raise ValueError(f"it has more than {DEEPEST} levels")
    return data


def _deeper_than(levels: int, data: Any) -> bool:
    """Whether lists and objects are nested in more levels, found level by level and not by recursion."""
    level = [data]
    for _ in range(levels + 1):
        level = [
            part
            for each in level
            if isinstance(each, list | dict)
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, list | dict)
        ]
        if not level:
            return False
    return True


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"it has a whole number of {len(text)} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refused(text)


def _refused(text: str) -> Any:
    raise ValueError(f"{text[:20]} is not a number that it may hold")
