"""Data that carry their places, so that what is taken from one spot of a file and put into another keeps its line."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.yaml_files.document import Document
from harness.yaml_files.source_location import Loc, Place, Problem


@dataclass(frozen=True)
class Placed:
    """A value of a document: a scalar, a list of `Placed`, or a mapping to `Placed`.

    `value` is where it stands, and `key` where its key does, if it has one.
    """

    data: Any
    value: Place
    key: Place | None = None

    def get(self, key: str) -> Placed | None:
        """What a mapping has under a key; None for anything else, and for a key that is not there."""
        return self.data.get(key) if isinstance(self.data, dict) else None

    @property
    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.data, dict):
            return {key: each.plain for key, each in self.data.items()}
        if isinstance(self.data, list):
            return [each.plain for each in self.data]
        return self.data

    @functools.cached_property
    def size(self) -> int:
        """How many values there are in it; those that stand at several spots count at each."""
        inside = self.data.values() if isinstance(self.data, dict) else self.data
        return 1 + (sum(each.size for each in inside) if isinstance(self.data, dict | list) else 0)

    def without(self, *keys: str) -> Placed:
        """A mapping without some of its keys."""
        return replace(self, data={key: each for key, each in self.data.items() if key not in keys})

    def over(self, below: Placed) -> Placed:
        """This value over another: mappings key by key, anything else replaced."""
        if not (isinstance(self.data, dict) and isinstance(below.data, dict)):
            return self
        both = {key: each.over(below.data[key]) if key in below.data else each for key, each in self.data.items()}
        return replace(self, data=below.data | both)


def placed(document: Document) -> Placed:
    """The data of a document with their places."""
    return _placed(document, document.data, ())


def _placed(document: Document, data: Any, loc: Loc) -> Placed:
    value, key = document.place(loc), document.keys.get(loc)
    if isinstance(data, dict):
        return Placed({name: _placed(document, each, (*loc, name)) for name, each in data.items()}, value, key)
    if isinstance(data, list):
        return Placed([_placed(document, each, (*loc, i)) for i, each in enumerate(data)], value, key)
    return Placed(data, value, key)


def document_of(path: Path, tree: Placed, problems: tuple[Problem, ...]) -> Document:
    """The document that a tree stands for."""
    keys: dict[Loc, Place] = {}
    values: dict[Loc, Place] = {}
    _note(tree, (), keys, values)
    return Document(path, tree.plain, keys, values, problems)


def _note(tree: Placed, loc: Loc, keys: dict[Loc, Place], values: dict[Loc, Place]) -> None:
    values[loc] = tree.value
    if tree.key is not None:
        keys[loc] = tree.key
    if isinstance(tree.data, dict):
        for name, each in tree.data.items():
            _note(each, (*loc, name), keys, values)
    elif isinstance(tree.data, list):
        for i, each in enumerate(tree.data):
            _note(each, (*loc, i), keys, values)
