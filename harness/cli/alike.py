"""Rows of one method that a narrow table shows alike: what tells them apart, from the columns that are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Contents = Sequence[dict[str, list[str]]]
"""For each row the columns that may tell it from others, the most telling first, with the parts of their cells."""


def differences(names: Sequence[str], contents: Contents, shown: Sequence[str]) -> list[str]:
    """For each row what tells it from others of the same name, as 'zero_cell=true', '' where nothing must.

    Columns that are `shown` are counted in as they are; of the others, one after another, the parts that not all rows
    of the name share, until no two of them are alike. The rows that are apart already get none.
    """
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(name, []).append(place)
    texts = [""] * len(names)
    for places in groups.values():
        if len(places) > 1:
            for place, parts in zip(places, _apart([contents[each] for each in places], shown), strict=True):
                texts[place] = ", ".join(parts)
    return texts


def _apart(rows: Contents, shown: Sequence[str]) -> list[list[str]]:
    keys = [tuple(tuple(row[name]) for name in row if name in shown) for row in rows]
    found: list[list[str]] = [[] for _ in rows]
    for name in rows[0]:
        counts = Counter(keys)
        if name in shown or max(counts.values()) == 1:
            continue
        common = set.intersection(*(set(row[name]) for row in rows))
        for place, row in enumerate(rows):
            own = [part for part in row[name] if part not in common]
            if counts[keys[place]] > 1:
                found[place] += own
            keys[place] = (*keys[place], tuple(own))
    return found
