"""Plans: a batch of episodes as indices and flags, no pixels.

Episode i of split s under seed r is a pure function of (protocol digest, s, r, i): whatever the batch it is
asked for in, whatever was asked for before, on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness import bits
from harness.data.dataset import ClassTable
from harness.errors import UserError
from harness.spec import AnyProtocol, DelayedLabel, OnlineFewShot, StreamProtocol, digest

SUPPORT, STREAM, QUERY = 0, 1, 2
PHASES = ("support", "stream", "query")
NULL = -1
"""Feedback of a step before which nothing is revealed."""

_CLASSES, _IMAGES, _ORDER, AUGMENT, SINGLE = range(5)


@dataclass(frozen=True)
class EpisodePlan:
    """B episodes of T steps.

    `target[b, t]` is the class number shown; `classes[b, target]` is its row in the split's class table.
    `shot` counts earlier presentations of the class, `revealed` those of them whose label is known at t.
    `reveals[t]` is the step whose target is revealed before step t, or NULL; it is the whole of label timing.
    """

    episode: np.ndarray  # [B] int64, episode numbers
    classes: np.ndarray  # [B, ways] int64
    image: np.ndarray  # [B, T] int64, image numbers of the data set
    target: np.ndarray  # [B, T] int64
    shot: np.ndarray  # [B, T] int64
    revealed: np.ndarray  # [B, T] int64
    reveals: np.ndarray  # [T] int64
    phase: np.ndarray  # [T] int8, SUPPORT, STREAM or QUERY
    scored: np.ndarray  # [T] bool

    @property
    def steps(self) -> int:
        return len(self.phase)

    @property
    def feedback(self) -> np.ndarray:
        """What is revealed before each step: int64 [B, T], NULL where nothing is."""
        return np.where(self.reveals >= 0, self.target[:, self.reveals], NULL)


def plan_key(protocol: AnyProtocol, split: str, seed: int) -> bits.Key:
    """The key of all random bits of (protocol digest, split, seed)."""
    return bits.key_of(digest(protocol), split, seed)


def plan_episodes(
    protocol: AnyProtocol, table: ClassTable, split: str, seed: int, episodes: Sequence[int] | np.ndarray
) -> EpisodePlan:
    """The plan of the numbered episodes (any numbers, any order) of one split under one seed.

    Raises UserError where the split cannot hold such an episode or the kind cannot be planned.
    """
    if not isinstance(protocol, OnlineFewShot | DelayedLabel):
        raise UserError(f"protocols of kind '{protocol.kind}' are validated but cannot be run yet")
    numbers = np.asarray(episodes, np.int64)
    return _stream(protocol, table, plan_key(protocol, split, seed), numbers)


def _stream(protocol: StreamProtocol, table: ClassTable, key: bits.Key, episodes: np.ndarray) -> EpisodePlan:
    ways, showings, steps = protocol.episode.ways, protocol.episode.presentations, protocol.steps
    size, count = len(table.names), len(episodes)
    if ways > size:
        raise UserError(f"{ways} classes in an episode, but the split has {size}")
    smallest = table.sizes.min()
    if showings > smallest:
        raise UserError(f"{showings} presentations of a class, but a class has only {smallest} images")
    classes = bits.distinct(bits.words(key, episodes, _CLASSES, ways), size)
    available = table.sizes[classes]
    if protocol.episode.order == "balanced":
        most = showings
        order = bits.shuffled(bits.words(key, episodes, _ORDER, steps))
        target = order // showings
    else:
        # Of the split, not of the classes drawn: else an episode would depend on the others of its batch.
        most = int(min(steps, table.sizes.max()))
        target = _drawn(bits.words(key, episodes, _ORDER, steps), available)
    drawn = bits.words(key, episodes, _IMAGES, ways * most).reshape(count, ways, most)
    samples = bits.distinct(drawn, available)
    # Showings of each class up to and including each step, [B, ways, T]; int32 halves the time of the sum.
    shown = np.cumsum(target[:, None] == np.arange(ways)[:, None], axis=2, dtype=np.int32)
    # Flat positions, for np.take: of each step's own class in `classes` [B, ways], and in `shown`.
    in_classes = np.arange(count)[:, None] * ways + target
    in_shown = in_classes * steps + np.arange(steps)
    shot = np.take(shown, in_shown).astype(np.int64) - 1
    first = np.take(table.offsets, np.take(classes, in_classes))
    image = np.take(table.members, first + np.take(samples, in_classes * most + shot)).astype(np.int64)
    delay = protocol.label_delay
    reveals = np.maximum(np.arange(steps) - delay, NULL)
    known = np.zeros_like(shot)
    if delay < steps:
        known[:, delay:] = np.take(shown, in_shown[:, delay:] - delay)
    return EpisodePlan(
        episode=episodes,
        classes=classes,
        image=image,
        target=target,
        shot=shot,
        revealed=known,
        reveals=reveals,
        phase=np.full(steps, STREAM, np.int8),
        scored=np.ones(steps, bool),
    )


def _drawn(words: np.ndarray, available: np.ndarray) -> np.ndarray:
    """A class number for each step, drawn evenly among the classes that still have unseen images: [B, T]."""
    left = available.copy()
    target = np.empty(words.shape, np.int64)
    rows = np.arange(len(words))
    for t in range(words.shape[1]):
        rank = bits.below(words[:, t], (left > 0).sum(axis=1))
        target[:, t] = (np.cumsum(left > 0, axis=1) > rank[:, None]).argmax(axis=1)
        left[rows, target[:, t]] -= 1
    return target
