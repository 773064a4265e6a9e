"""Durations and seeds as people write them, on the command line and in files."""

from __future__ import annotations

import re

from harness.util.errors import UserError

MOST_SEEDS = 1000
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str, name: str) -> float:
    """Seconds from '90s', '10m', '2h' or '1d'; UserError, which calls the value by `name`, for anything else."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhd]?)", text.strip(), re.ASCII)
    if not match or float(match[1]) <= 0:
        raise UserError(f"{name} is '{text}'; write it as 90s, 10m or 2h")
    return float(match[1]) * _SECONDS[match[2]]


def in_seconds(seconds: float) -> str:
    """The same number of seconds as `duration` reads it: '90s', '1036800s', '0.5s'."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def counted(count: int, one: str, several: str = "") -> str:
    """A number of things: '1 thread', '2 threads', '0 classes'."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def clock(seconds: float) -> str:
    """A time that was measured, as '0:42 min' or '3:05 h'."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"


def about(seconds: float) -> str:
    """A time that is expected, as '42 s', '3 min' or '1 h 20 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def seed_numbers(text: str, name: str) -> list[int]:
    """Seeds from '0', '0-2' or '0,3,7', each once; UserError, which calls the value by `name`, for anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip(), re.ASCII)
        if not match:
            raise UserError(f"{name} is '{text}'; write 0, 0-2 or 0,3,7")
        first, last = match[1], match[2] or match[1]
        if max(len(first), len(last)) > 20 or int(last) >= 2**63:
            raise UserError(f"{name} is '{text}'; a seed is a whole number below 2^63")
        if int(last) < int(first):
            raise UserError(f"{name} is '{text}', where {part.strip()} names no seed; write the smaller one first")
        seeds += range(int(first), min(int(last), int(first) + MOST_SEEDS) + 1)
        if len(seeds) > MOST_SEEDS:
            raise UserError(f"{name} is '{text}', which names more than {MOST_SEEDS} seeds")
    return list(dict.fromkeys(seeds))
