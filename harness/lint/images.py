"""Splits that share classes, image files or identical pixels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from harness.data.dataset import Dataset
from harness.lint.finding import ERROR, NOTE, WARNING, Finding

NAMED = 3
"""Examples named in a finding."""


def data_findings(dataset: Dataset) -> Iterator[Finding]:
    """Leaks between the splits of a data set: classes, images by number, images by content."""
    for one, other in combinations(dataset.tables, 2):
        left, right = dataset.tables[one], dataset.tables[other]
        if dataset.card.disjoint and (common := sorted(set(left.names) & set(right.names))):
            yield Finding(ERROR, "splits", f"{len(common)} classes are in both {one} and {other}: {_examples(common)}")
        if not dataset.card.disjoint and left.names != right.names:
            yield Finding(ERROR, "splits", f"{one} and {other} do not have the same classes in the same order")
        both = np.intersect1d(left.members, right.members)
        if len(both):
            names = _examples([dataset.image_ids[n] for n in both[:NAMED]], len(both))
            yield Finding(ERROR, "splits", f"{len(both)} images are in both {one} and {other}: {names}")
    yield from _identical(dataset)


def _identical(dataset: Dataset) -> Iterator[Finding]:
    """Images with the same pixels but other numbers, across splits and within one."""
    split_of = np.full(len(dataset.images), "", object)
    for split, table in dataset.tables.items():
        split_of[table.members] = split
    alike: dict[bytes, list[int]] = defaultdict(list)
    for number, image in enumerate(dataset.images):
        if split_of[number]:
            alike[hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()].append(number)
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for numbers in alike.values():
        for first, second in combinations(numbers, 2):
            where = (split_of[first], split_of[second])
            pairs[where].append(f"{dataset.image_ids[first]} = {dataset.image_ids[second]}")
    for (one, other), names in pairs.items():
        if one == other:
            yield Finding(NOTE, "images", f"{len(names)} pairs of identical images within {one}: {_examples(names)}")
        else:
            yield Finding(
                WARNING,
                "images",
                f"{len(names)} images of {one} are also in {other}, pixel by pixel: {_examples(names)}",
            )


def _examples(names: list[str], total: int | None = None) -> str:
    total = len(names) if total is None else total
    return ", ".join(names[:NAMED]) + (", ..." if total > NAMED else "")
