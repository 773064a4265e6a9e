"""Test episodes that a file fixes (`scoring.episodes`), as they are held in a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.protocol.episode_rows import Content

if TYPE_CHECKING:
    import numpy as np

NOTHING = -1
"""In `feedback` and `reveals`: null."""


@dataclass(frozen=True)
class ShownImage:
    """A distinct image of the episodes: `id` in the data set, or else one of its own, turned by `turns` quarters
    counter-clockwise (None: as its class is). `row` is the first row that shows it."""

    row: int
    id: str | None
    turns: int | None
    image: Content | None = None
    mask: Content | None = None


@dataclass(frozen=True, eq=False, repr=False)
class EpisodeFile:
    """E episodes of T steps that a file fixes; two are equal if the episodes are.

    `digest` is the SHA-256 (hex) of what is shown and what the right answers are, whatever the format and the order of
    an episode's rows; the episodes come in the order of their first rows. `names` are the classes, `class_of[e, t]`
    (int64) the number of the one that is shown among them, -1 where the file does not say. What the file repeats of the
    protocol is there to be compared with it: `phase` of the steps, and, where the file has them, `feedback`, `reveals`
    (int64 [E, T]) and `scored` (bool [E, T]).
    """

    path: Path
    digest: str
    row: np.ndarray  # [E, T] int64, the row of each step
    phase: tuple[str, ...]  # [T]
    target: np.ndarray  # [E, T] int64
    shown: np.ndarray  # [E, T] int64, numbers of `images`
    images: tuple[ShownImage, ...]
    names: tuple[str, ...]
    class_of: np.ndarray  # [E, T] int64
    feedback: np.ndarray | None = None
    reveals: np.ndarray | None = None
    scored: np.ndarray | None = None
    fingerprint: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpisodeFile) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"{self.count} episodes of {self.path.name}"

    @property
    def count(self) -> int:
        """E: how many episodes there are."""
        return len(self.target)

    @property
    def own_images(self) -> bool:
        """Whether the images come with the file, in place of being those of the data set."""
        return self.images[0].image is not None
