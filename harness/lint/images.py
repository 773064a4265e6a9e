"""Splits that share classes, image files or identical pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sized
from itertools import combinations

import numpy as np

from harness.data.dataset import Dataset
from harness.lint.finding import ERROR, NOTE, WARNING, Finding
from harness.util.progress import tracked

NAMED = 3
"""Examples named in a finding."""


def data_findings(dataset: Dataset) -> Iterator[Finding]:
    """Leaks between the splits of a data set: classes, images by number, images by content."""
    for one, other in combinations(dataset.tables, 2):
        left, right = dataset.tables[one], dataset.tables[other]
        if dataset.card.disjoint and (common := sorted(set(left.names) & set(right.names))):
            yield Finding(
                ERROR, "splits", f"{_count(common, 'class', 'classes')} in both {one} and {other}: {_examples(common)}"
            )
        if not dataset.card.disjoint and left.names != right.names:
            yield Finding(ERROR, "splits", f"{one} and {other} do not have the same classes in the same order")
        both = np.intersect1d(left.members, right.members)
        if len(both):
            names = _examples([dataset.image_ids[n] for n in both[:NAMED]], len(both))
            yield Finding(ERROR, "splits", f"{_count(both, 'image', 'images')} in both {one} and {other}: {names}")
    yield from _identical(dataset)


def _identical(dataset: Dataset) -> Iterator[Finding]:
    """Images with the same pixels but other numbers, across splits and within one; images are counted, not pairs."""
    kinds = _kinds_of_pixels(dataset)
    members = {split: np.unique(table.members) for split, table in dataset.tables.items()}
    for one, other in combinations(members, 2):
        # What is in both splits by its number is a finding of its own.
        left, right = np.setdiff1d(members[one], members[other]), np.setdiff1d(members[other], members[one])
        shared = left[np.isin(kinds[left], kinds[right])]
        if len(shared):
            twin_of = dict(zip(kinds[right][::-1].tolist(), right[::-1].tolist(), strict=True))
            yield Finding(
                WARNING,
                "images",
                f"{len(shared)} of {len(left)} images of {one} {_are(shared)} also in {other}, pixel by pixel: "
                f"{_twins(dataset, shared, [twin_of[kinds[each]] for each in shared[:NAMED]])}",
            )
    for split, numbers in members.items():
        _, first, kind = np.unique(kinds[numbers], return_index=True, return_inverse=True)
        repeats = np.flatnonzero(first[kind] != np.arange(len(numbers)))
        if len(repeats):
            repeated, originals = numbers[repeats], numbers[first[kind[repeats]]]
            yield Finding(
                NOTE,
                "images",
                f"{len(repeats)} of {len(numbers)} images of {split} {_are(repeats)} the same as an earlier one of "
                f"{split}, pixel by pixel: {_twins(dataset, repeated, originals[:NAMED].tolist())}",
            )


def _kinds_of_pixels(dataset: Dataset) -> np.ndarray:
    """A number for each image, int64 [N], that is the same for images with the same pixels.

    Sixteen bytes of each image are in memory, however many are alike.
    """
    hashes = np.empty((len(dataset.images), 16), np.uint8)
    for number in tracked(range(len(dataset.images)), "comparing", "images"):
        image = np.ascontiguousarray(dataset.images[number])
        hashes[number] = np.frombuffer(hashlib.blake2b(image.data, digest_size=16).digest(), "u1")
    words = hashes.view("<u8")
    order = np.lexsort((words[:, 1], words[:, 0]))
    ordered = words[order]
    kinds = np.empty(len(hashes), np.int64)
    kinds[order] = np.cumsum(np.concatenate([[False], (ordered[1:] != ordered[:-1]).any(1)])[: len(hashes)])
    return kinds


def _twins(dataset: Dataset, images: np.ndarray, twins: list[int]) -> str:
    """The first few images, each with the one that it is equal to."""
    pairs = zip(images[:NAMED].tolist(), twins, strict=True)
    return _examples([f"{dataset.image_ids[one]} = {dataset.image_ids[other]}" for one, other in pairs], len(images))


def _count(found: Sized, one: str, many: str) -> str:
    return f"1 {one} is" if len(found) == 1 else f"{len(found)} {many} are"


def _are(images: np.ndarray) -> str:
    return "is" if len(images) == 1 else "are"


def _examples(names: list[str], total: int | None = None) -> str:
    total = len(names) if total is None else total
    return ", ".join(names[:NAMED]) + (", ..." if total > NAMED else "")
