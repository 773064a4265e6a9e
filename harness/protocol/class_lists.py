"""Class lists in files of their own, one class a line, named in a protocol file in place of the lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.util.atomic_files import read_limited
from harness.yaml_files.document import MOST_BYTES, Document
from harness.yaml_files.source_location import Loc, Place, Problem, problem_at, shown

_LISTS: Loc = ("dataset", "classes")
_LONGEST = 255  # characters of a class; a folder's name has no more


def with_class_lists(document: Document) -> Document:
    """The document with the lists of `dataset.classes` that are named by their file read from it.

    A file is looked for beside the protocol file that names it. Each class keeps its line, so that an error about
    it is shown there; a file that cannot be used becomes a problem of the document, at its name.
    """
    dataset = document.data.get(_LISTS[0])
    lists = dataset.get(_LISTS[1]) if isinstance(dataset, dict) else None
    if not isinstance(lists, dict):
        return document
    read: dict[str, list[str]] = {}
    values, problems = dict(document.values), list(document.problems)
    for split, name in lists.items():
        if isinstance(name, str):
            loc = (*_LISTS, split)
            place = document.place(loc)
            names = _names(place.path.parent, name, place, loc)
            if isinstance(names, Problem):
                problems.append(names)
                continue
            read[split] = list(names.values())
            values |= {(*loc, number): where for number, where in enumerate(names)}
    data = {**document.data, "dataset": {**dataset, "classes": {**lists, **read}}}
    return replace(document, data=data, values=values, problems=tuple(problems))


def _names(folder: Path, name: str, place: Place, loc: Loc) -> dict[Place, str] | Problem:
    """The lines of a class list that are not empty, each with its place."""
    try:
        path = folder / Path(name).expanduser()
    except RuntimeError as error:  # the home of somebody who is not known here
        return problem_at(place, f"cannot read the classes from '{name}': {error}", loc)
    try:
        raw = read_limited(path, MOST_BYTES)
        if len(raw) > MOST_BYTES:
            return problem_at(place, f"'{shown(path)}' is larger than {MOST_BYTES // 2**20} MiB", loc)
        lines = raw.decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        return problem_at(place, f"there is no file '{shown(path)}' to read the classes from (one class a line)", loc)
    except UnicodeDecodeError:
        return problem_at(place, f"'{shown(path)}' is not UTF-8 text with one class a line", loc)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return problem_at(place, f"cannot read the classes from '{shown(path)}': {why}", loc)
    long = next((number for number, line in enumerate(lines, 1) if len(line) > _LONGEST), None)
    if long is not None:
        message = f"line {long} of '{shown(path)}' has more than {_LONGEST} characters; expected one class a line"
        return problem_at(place, message, loc)
    names = {Place(path, number, 1): line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    return names or problem_at(place, f"'{shown(path)}' names no class", loc)
