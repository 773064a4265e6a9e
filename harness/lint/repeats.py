"""Test episodes from a file that show an image twice, or that are in the file twice; drawn ones never do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.data.dataset import ClassTable
from harness.lint.finding import ERROR, WARNING, Finding
from harness.protocol.models import AnyProtocol


def repeat_findings(protocol: AnyProtocol, table: ClassTable) -> Iterator[Finding]:
    """An image that comes back after its label was revealed can be answered from memory, pixel by pixel."""
    file = protocol.episode_file
    if file is None or table.fixed is None:
        return
    images = table.fixed.image * 4 + table.rotations[table.fixed.row]
    ordered = np.sort(images, axis=1)
    twice = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if len(twice):
        row = file.row[twice[0], _second(images[twice[0]])]
        yield Finding(
            ERROR,
            "episodes",
            f"scoring.episodes: {len(twice)} of {file.count} episodes of {file.path.name} show an image twice "
            f"(first in row {row}): its answer can be looked up",
        )
    shown = np.stack([images, file.target], axis=1).reshape(file.count, -1)
    same = file.count - len(np.unique(shown, axis=0))
    if same:
        yield Finding(
            WARNING,
            "episodes",
            f"scoring.episodes: {same} of {file.count} episodes of {file.path.name} are the same as others: intervals "
            "over episodes are too narrow",
        )


def _second(images: np.ndarray) -> int:
    """The first step [T] whose image was shown before."""
    _, first = np.unique(images, return_index=True)
    return int(np.setdiff1d(np.arange(len(images)), first)[0])
