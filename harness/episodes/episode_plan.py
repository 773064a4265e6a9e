"""A batch of episodes as indices and flags, no pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SUPPORT, STREAM, QUERY = 0, 1, 2
PHASES = ("support", "stream", "query")
NULL = -1
"""Feedback of a step before which nothing is revealed."""

CLASSES, IMAGES, ORDER, AUGMENT, SINGLE, QUERY_ORDER, WARP = range(7)
"""Which of an episode's random words are meant: its classes, their images, the order of steps, and so on."""


@dataclass(frozen=True)
class EpisodePlan:
    """B episodes of T steps: support pairs first, then the stream, then queries, where the kind has them.

    `target[b, t]` is the class number shown; `classes[b, target]` is its row in the split's class table.
    (Where masks are asked for, number 0 is the target class and 1 the distractor.)
    `shot` counts earlier presentations of the class, `revealed` those of them whose label is known at t.
    `feedback_step[t]` is the step whose target is revealed before step t, or NULL; it is the whole of label timing.
    A support pair has its own target as feedback; all queries follow the last step before them and share its feedback.
    """

    episode: np.ndarray  # [B] int64, episode numbers
    classes: np.ndarray  # [B, ways] int64
    image: np.ndarray  # [B, T] int64, image numbers of the data set
    target: np.ndarray  # [B, T] int64
    shot: np.ndarray  # [B, T] int64
    revealed: np.ndarray  # [B, T] int64
    feedback_step: np.ndarray  # [T] int64
    phase: np.ndarray  # [T] int8, SUPPORT, STREAM or QUERY
    scored: np.ndarray  # [T] bool

    def part(self, rows: slice) -> EpisodePlan:
        """The plan of some of its episodes, in memory of its own."""
        own = ("episode", "classes", "image", "target", "shot", "revealed")
        return replace(self, **{name: getattr(self, name)[rows].copy() for name in own})

    @property
    def steps(self) -> int:
        return len(self.phase)

    @property
    def first_query(self) -> int:
        """The first query's step; T where there are no queries."""
        return int((self.phase != QUERY).sum())

    @property
    def answer_mask(self) -> np.ndarray:
        """The steps that a method answers, bool [T]: all but support pairs."""
        return self.phase != SUPPORT

    @property
    def feedback(self) -> np.ndarray:
        """What is revealed before each step, as class numbers: int64 [B, T], NULL where nothing is."""
        return np.where(self.feedback_step >= 0, self.target[:, self.feedback_step], NULL)
