"""Rows of a file of episodes, JSON lines or Parquet: columns read and checked one by one, images left encoded."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.util.atomic_files import is_file
from harness.util.errors import nearest

FORMATS = (".jsonl", ".parquet")

COLUMNS = {
    "episode": "a number or a name, the same in all rows of an episode",
    "step": "0..T-1",
    "phase": "support, stream or query",
    "image_id": "image that is shown, as the data set names it",
    "image": "or an image of its own: a path relative to this file, or the bytes of an encoded image",
    "turns": "quarter turns counter-clockwise at which the image is shown",
    "mask": "mask of the object on an image of its own, given as `image` is",
    "target": "class number within the episode, the right answer",
    "class_name": "class that is shown, by name",
    "scored": "whether the answer counts",
    "feedback": "target revealed before the step, or null",
    "reveals": "step whose target that is, or null",
    "split": "test",
    "fingerprint": "beginning of the fingerprint of the data set that `image_id` speaks of",
}
"""The columns that are read, and what they hold."""

UNREAD = ("digest", "seed", "shot", "revealed")
"""Columns of exported files that say where a row came from, or are counted again."""

_NULL_SAYS = ("feedback", "reveals")
"""Columns whose null says something: that nothing is revealed."""

_REQUIRED = ("episode", "step", "phase")
_NUMBERS = ("step", "turns", "target", "feedback", "reveals")
_TEXTS = ("phase", "image_id", "class_name", "split", "fingerprint")
_ROWS = 1000  # in memory at a time
_LONGEST = 80  # characters of a value that an error shows


@dataclass(frozen=True)
class Content:
    """An encoded image: the SHA-256 (hex) of its bytes, and the file that it is in (None: its row holds the bytes)."""

    digest: str
    path: Path | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of a file: `number` is each one's place in it, from 1 (of JSON lines the line); `columns` are those that
    any row has, None where a row lacks the value; images and masks are `Content`."""

    number: list[int]
    columns: dict[str, list[Any]]


def read_rows(path: Path, problems: list[str]) -> Rows:
    """The rows of a file; what is wrong with values is added to `problems`, each with its row.

    Raises ValueError for a file that cannot be read at all.
    """
    rows = Rows([], {})
    unknown: set[str] = set()
    for number, given in _rows(path):
        for name in given.keys() - COLUMNS.keys() - set(UNREAD) - unknown:
            unknown.add(name)
            guess = nearest(name, COLUMNS)
            hint = f"; did you mean '{guess}'?" if guess else f"; known are {', '.join([*COLUMNS, *UNREAD])}"
            problems.append(f"row {number}: unknown column '{name}'{hint}")
        for name, value in given.items():
            if name not in COLUMNS:
                continue
            if value is None:
                if name in _NULL_SAYS and name not in rows.columns:
                    rows.columns[name] = [None] * len(rows.number)
                continue
            try:
                checked = _CHECKS[name](value, path.parent)
            except ValueError as error:
                problems.append(f"row {number}, {name}: {error}")
                checked = None
            rows.columns.setdefault(name, [None] * len(rows.number)).append(checked)
        rows.number.append(number)
        for column in rows.columns.values():
            if len(column) < len(rows.number):
                column.append(None)
    if not rows.number:
        raise ValueError("it has no rows")
    for name in _REQUIRED:
        if name not in rows.columns:
            problems.append(f"there is no column '{name}': {COLUMNS[name]}")
    return rows


def contents(path: Path, column: str, wanted: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Rows by number, in their order, with the bytes of the encoded image that each holds in `column`."""
    chosen = set(wanted)
    for number, given in _rows(path):
        if number in chosen:
            held = _held(given.get(column))
            assert isinstance(held, bytes)
            yield number, held


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix not in FORMATS:
        raise ValueError(f"its name must end in {' or '.join(FORMATS)}")
    if not is_file(path):
        raise ValueError("there is no such file")
    return _of_jsonl(path) if path.suffix == ".jsonl" else _of_parquet(path)


def _of_jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"row {number}: not JSON ({error}); expected an object a line") from None
                if not isinstance(row, dict):
                    raise ValueError(f'row {number}: {_shown(row)}; expected an object, as in {{"episode": 0, ...}}')
                yield number, row
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or error}") from None


def _of_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as table:
            first = 1
            for batch in table.iter_batches(_ROWS):
                rows = batch.to_pylist()
                yield from enumerate(rows, first)
                first += len(rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"it cannot be read as a Parquet file: {error}") from None


def _episode(value: Any, folder: Path) -> int | str:
    if isinstance(value, str) and value:
        return value
    return _whole(value, folder)


def _whole(value: Any, folder: Path) -> int:
    if isinstance(value, float) and value.is_integer():  # whole numbers beside nulls are often written so
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"{_shown(value)}; expected a whole number from 0")
    return value


def _turns(value: Any, folder: Path) -> int:
    number = _whole(value, folder)
    if number > 3:
        raise ValueError(f"{number}; expected 0, 1, 2 or 3")
    return number


def _text(value: Any, folder: Path) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{_shown(value)}; expected text")
    return value


def _flag(value: Any, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)}; expected true or false")
    return value


def _content(value: Any, folder: Path) -> Content:
    held = _held(value)
    if isinstance(held, bytes):
        return Content(hashlib.sha256(held).hexdigest())
    path = folder / held
    if not is_file(path):
        raise ValueError(f"there is no file '{path}'")
    try:
        state = path.stat()
        return Content(_digest_of(path, state.st_mtime_ns, state.st_size), path)
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read: {error.strerror or error}") from None


def _held(value: Any) -> bytes | str:
    """The bytes of an image, or the path of its file. A mapping is as the `datasets` library writes images, where
    JSON has bytes in base64."""
    if isinstance(value, dict) and value.keys() <= {"bytes", "path"}:
        inside, value = value.get("bytes"), value.get("path")
        if isinstance(inside, str):
            try:
                inside = base64.b64decode(inside, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("its bytes are not base64") from None
        value = inside or value
    if isinstance(value, bytes | str) and value:
        return value
    raise ValueError(f'{_shown(value)}; expected the path of an image, or {{"bytes": ...}} with an encoded image')


@functools.lru_cache(maxsize=2**16)
def _digest_of(path: Path, changed: int, size: int) -> str:
    """SHA-256 (hex) of a file, which many rows may show; one that has changed since is read again."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"found {text if len(text) <= _LONGEST else text[:_LONGEST] + ' ...'}"


_CHECKS: dict[str, Callable[[Any, Path], Any]] = {
    "episode": _episode,
    **dict.fromkeys(_NUMBERS, _whole),
    **dict.fromkeys(_TEXTS, _text),
    "turns": _turns,
    "scored": _flag,
    "image": _content,
    "mask": _content,
}
