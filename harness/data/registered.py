"""Data sets that a program has in memory: registered under a name, which protocols may then use as any other."""

from __future__ import annotations

import re

from harness.data.cards import CARDS
from harness.data.dataset import Dataset
from harness.util.errors import UserError

_REGISTERED: dict[str, Dataset] = {}
_SHIPPED = frozenset(CARDS)


def register_dataset(dataset: Dataset) -> Dataset:
    """Makes a data set known by its name, in this process: `dataset: NAME` in a protocol, `data="NAME"` in a call.

    One of the same name that was registered before is replaced: fingerprints on records tell the two apart. Returns the
    data set. Raises UserError for the name of a data set that the harness ships, and for one that cannot be a name.
    """
    name = dataset.name
    if name in _SHIPPED:
        raise UserError(f"'{name}' is the name of a data set of the harness; choose another")
    if not re.fullmatch(r"[a-z0-9_]{1,100}", name):
        raise UserError(f"'{name}' cannot be the name of a data set: write it in small letters, digits and _")
    CARDS[name] = dataset.card
    _REGISTERED[name] = dataset
    return dataset


def registered_dataset(name: str) -> Dataset | None:
    """The data set that was registered under a name; None if none was."""
    return _REGISTERED.get(name)
