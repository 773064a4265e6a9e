"""Places in files, and problems that are reported at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.util.errors import UserError

Loc = tuple[str | int, ...]
"""Where a value is in the data: keys of mappings and numbers of list entries, from the top."""


@dataclass(frozen=True)
class Place:
    """A place in a file; line and column count from 1, and are 0 where the file as a whole is meant."""

    path: Path
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{shown(self.path)}:{self.line}:{self.column}" if self.line else shown(self.path)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file; as text 'file:line:column: key.path: message'."""

    path: Path
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        where = Place(self.path, self.line, self.column)
        return ": ".join(part for part in (str(where), self.key, self.message) if part)


class YamlError(UserError):
    """Everything that is wrong with a YAML file (and with those it extends), one line each."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        lines = [str(problem) for problem in problems]
        super().__init__(lines[0] if len(lines) == 1 else "\n".join([f"{len(lines)} problems", *lines]))


def problem_at(place: Place, message: str, loc: Loc = ()) -> Problem:
    """A problem of the value at `loc`, which stands at `place`."""
    return Problem(place.path, place.line, place.column, path_text(loc), message)


def path_text(loc: Loc) -> str:
    """A location as people write it: 'published[0].metrics'."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(path: Path) -> str:
    """The path as text, without the working directory where it lies there."""
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(path)
