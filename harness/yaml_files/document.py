"""YAML files that people write: nothing is dropped or guessed, and every error names its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.util.atomic_files import read_limited
from harness.yaml_files.nodes import Builder
from harness.yaml_files.source_location import Loc, Place, Problem, YamlError, problem_at, shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Document", "Place", "Problem", "YamlError", "parse_yaml", "read_yaml", "validated"]

T = TypeVar("T")
MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Document:
    """What a file says (`data`), where each key and value of it stands, and what was found wrong so far."""

    path: Path
    data: Any
    keys: Mapping[Loc, Place] = field(default_factory=dict)
    values: Mapping[Loc, Place] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def place(self, loc: Loc, at_key: bool = False) -> Place:
        """Where the value (or the key) at `loc` stands, or else the key or list entry nearest around it."""
        if not at_key and loc in self.values:
            return self.values[loc]
        for end in range(len(loc), 0, -1):
            place = (self.values if isinstance(loc[end - 1], int) else self.keys).get(loc[:end])
            if place is not None:
                return place
        return self.values.get((), Place(self.path))

    def line_of(self, loc: Loc) -> tuple[int, int]:
        """Line and column (from 1) of the value at `loc`."""
        place = self.place(loc)
        return place.line, place.column


def read_yaml(path: Path) -> Document:
    """The document in a file whose top is a mapping.

    Raises YamlError for a file that cannot be read or is not YAML, and for keys given twice, tags, and words
    that YAML readers disagree on (all of these at once).
    """
    document = parse_yaml(path)
    if document.problems:
        raise YamlError(*document.problems)
    return document


def parse_yaml(path: Path) -> Document:
    """As `read_yaml`, but problems that leave the rest of the file readable are kept in `.problems`."""
    builder = Builder(path)
    data = builder.data_of(_text(path))
    return Document(path, data, builder.keys, builder.values, tuple(sorted(builder.problems, key=_order)))


def validated(document: Document, adapter: TypeAdapter[T], also: tuple[str, ...] = ()) -> T:
    """The document's data as what `adapter` describes.

    `also` names keys that are allowed at the top besides those of the model. Raises YamlError with everything
    that is wrong, each problem at its line: those the document came with and those the model finds.
    """
    from pydantic import ValidationError

    from harness.yaml_files.messages import findings

    value: list[T] = []
    problems = list(document.problems)
    refused = {(each.path, each.line, each.column) for each in problems}
    try:
        value.append(adapter.validate_python(document.data))
    except ValidationError as error:
        for finding in findings(adapter, document.data, error, also):
            place = document.place(finding.at, finding.at_key)
            # A word that is refused already would only be reported again as being of the wrong type.
            if finding.at != finding.loc or (place.path, place.line, place.column) not in refused:
                inherited = "" if place.path == document.path else f" (inherited by {shown(document.path)})"
                problems.append(problem_at(place, finding.message + inherited, finding.loc))
    if problems:
        raise YamlError(*sorted(problems, key=lambda each: (each.path != document.path, *_order(each))))
    return value[0]


def _order(problem: Problem) -> tuple[str, int, int]:
    return str(problem.path), problem.line, problem.column


def _text(path: Path) -> str:
    """The text of a file; YamlError where there is none."""
    if path.is_dir():
        raise YamlError(problem_at(Place(path), "is a directory; name a YAML file"))
    try:
        raw = read_limited(path, MOST_BYTES)
    except FileNotFoundError:
        raise YamlError(problem_at(Place(path), "there is no such file")) from None
    except OSError as error:
        raise YamlError(problem_at(Place(path), f"cannot be read: {error.strerror or error}")) from None
    if len(raw) > MOST_BYTES:
        raise YamlError(problem_at(Place(path), f"is larger than {MOST_BYTES // 2**20} MiB"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        place = Place(path, before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
        message = f"not UTF-8 text (byte 0x{raw[error.start]:02x}); save the file as UTF-8"
        raise YamlError(problem_at(place, message)) from None
