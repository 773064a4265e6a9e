"""Plans: a batch of episodes as indices and flags, no pixels.

Episode i of split s under seed r is a pure function of (protocol digest, s, r, i): whatever the batch it is
asked for in, whatever was asked for before, on any machine. Each kind has one function here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.data.dataset import ClassTable
from harness.protocol.models import AnyProtocol, Continual, NWayKShot, SegmentationDistractors, StreamProtocol, digest
from harness.util import philox
from harness.util.errors import UserError

SUPPORT, STREAM, QUERY = 0, 1, 2
PHASES = ("support", "stream", "query")
NULL = -1
"""Feedback of a step before which nothing is revealed."""

_CLASSES, _IMAGES, _ORDER, AUGMENT, SINGLE, _ASKED = range(6)


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


def plan_key(protocol: AnyProtocol, split: str, seed: int) -> philox.Key:
    """The key of all random bits of (protocol digest, split, seed)."""
    return philox.key_of(digest(protocol), split, seed)


def plan_episodes(
    protocol: AnyProtocol, table: ClassTable, split: str, seed: int, episodes: Sequence[int] | np.ndarray
) -> EpisodePlan:
    """The plan of the numbered episodes (any numbers, any order) of one split under one seed.

    Raises UserError where the split cannot hold such an episode.
    """
    numbers = np.asarray(episodes, np.int64)
    return _PLANS[protocol.kind](protocol, table, split, plan_key(protocol, split, seed), numbers)


def delay_of(protocol: AnyProtocol) -> int | None:
    """The label delay d of a kind with a stream, None for one without."""
    if isinstance(protocol, Continual | SegmentationDistractors):
        return 1
    return getattr(protocol, "label_delay", None)


def _stream(
    protocol: StreamProtocol, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray
) -> EpisodePlan:
    shape = protocol.episode
    return _streamed(table, key, episodes, shape.ways, shape.presentations, protocol.label_delay, shape.order)


def _segmentation(
    protocol: SegmentationDistractors, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray
) -> EpisodePlan:
    shape = protocol.episode
    return _streamed(table, key, episodes, 1 + shape.distractor, shape.presentations, delay=1)


def _streamed(
    table: ClassTable,
    key: philox.Key,
    episodes: np.ndarray,
    ways: int,
    presentations: int,
    delay: int,
    order: str = "balanced",
) -> EpisodePlan:
    """Streams of `presentations` x `ways` steps whose labels are `delay` steps late."""
    steps, count = ways * presentations, len(episodes)
    classes = _drawn_classes(table, key, episodes, ways, presentations)
    available = table.sizes[classes]
    most = presentations
    if order == "balanced":
        target = philox.shuffled(philox.words(key, episodes, _ORDER, steps)) // presentations
    elif order == "cyclic":
        target = np.tile(philox.shuffled(philox.words(key, episodes, _ORDER, ways)), (1, presentations))
    else:
        # Of the split, not of the classes drawn: else an episode would depend on the others of its batch.
        most = int(min(steps, table.sizes.max()))
        target = _drawn(philox.words(key, episodes, _ORDER, steps), available)
    shown = _shown(target, ways)
    # Flat positions, for np.take: of each step's own class in `shown`.
    at = (np.arange(count)[:, None] * ways + target) * steps + np.arange(steps)
    shot = np.take(shown, at).astype(np.int64) - 1
    known = np.zeros_like(shot)
    if delay < steps:
        known[:, delay:] = np.take(shown, at[:, delay:] - delay)
    return EpisodePlan(
        episode=episodes,
        classes=classes,
        image=_images(table, key, episodes, classes, most, target, shot),
        target=target,
        shot=shot,
        revealed=known,
        feedback_step=np.maximum(np.arange(steps) - delay, NULL),
        phase=np.full(steps, STREAM, np.int8),
        scored=np.ones(steps, bool),
    )


def _continual(
    protocol: Continual, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray
) -> EpisodePlan:
    ways, shots, queries = protocol.episode.subtasks, protocol.episode.shots, protocol.episode.queries
    # Class numbers come in random order too: else a learner would know the next one before it is shown.
    order = philox.shuffled(philox.words(key, episodes, _ORDER, ways))
    stream = np.repeat(order, shots, axis=1)
    place = np.broadcast_to(np.tile(np.arange(shots), ways), stream.shape)
    steps = ways * shots
    feedback_step = np.concatenate([np.arange(steps) - 1, np.full(ways * queries, steps - 1)])
    return _then_queries(table, key, episodes, ways, shots, queries, stream, place, feedback_step, STREAM)


def _k_shot(protocol: NWayKShot, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray) -> EpisodePlan:
    ways, shots, queries = protocol.episode.ways, protocol.episode.shots, protocol.episode.queries
    support = philox.shuffled(philox.words(key, episodes, _ORDER, ways * shots)) // shots
    place = np.take_along_axis(_shown(support, ways), support[:, None], axis=1)[:, 0].astype(np.int64) - 1
    feedback_step = np.concatenate([np.arange(ways * shots), np.full(ways * queries, NULL)])
    return _then_queries(table, key, episodes, ways, shots, queries, support, place, feedback_step, SUPPORT)


def _then_queries(
    table: ClassTable,
    key: philox.Key,
    episodes: np.ndarray,
    ways: int,
    shots: int,
    queries: int,
    target: np.ndarray,
    place: np.ndarray,
    feedback_step: np.ndarray,
    phase: int,
) -> EpisodePlan:
    """Steps with `target` and `place` [B, ways * shots], then `queries` of each class in random order, which are
    images that were not shown before. Only queries are scored."""
    classes = _drawn_classes(table, key, episodes, ways, shots + queries)
    # The order of queries must tell nothing about their classes.
    asked = philox.shuffled(philox.words(key, episodes, _ASKED, ways * queries))
    target = np.concatenate([target, asked // queries], axis=1)
    shot = np.concatenate([place, np.full_like(asked, shots)], axis=1)
    nth = np.concatenate([place, shots + asked % queries], axis=1)
    is_query = np.repeat([False, True], [ways * shots, ways * queries])
    return EpisodePlan(
        episode=episodes,
        classes=classes,
        image=_images(table, key, episodes, classes, shots + queries, target, nth),
        target=target,
        shot=shot,
        revealed=shot.copy(),
        feedback_step=feedback_step,
        phase=np.where(is_query, QUERY, phase).astype(np.int8),
        scored=is_query,
    )


def _supervised(
    protocol: AnyProtocol, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray
) -> EpisodePlan:
    """Training images in a new order each time through the split; those of other splits once, in their own order."""
    total = int(table.offsets[-1])
    turn, at = np.divmod(episodes, total)
    if split == "train":
        order = np.empty_like(at)
        for each in np.unique(turn):
            order[turn == each] = _epoch(key, int(each), total)[at[turn == each]]
        at = order
    elif turn.any():
        raise UserError(f"the {split} split has {total} images; episode {int(episodes.max())} does not exist")
    row = np.searchsorted(table.offsets, at, side="right") - 1
    nothing = np.zeros((len(episodes), 1), np.int64)
    return EpisodePlan(
        episode=episodes,
        classes=np.broadcast_to(np.arange(len(table.names)), (len(episodes), len(table.names))),
        image=table.members[at].astype(np.int64)[:, None],
        target=row[:, None],
        shot=nothing,
        revealed=nothing,
        feedback_step=np.array([NULL]),
        phase=np.array([STREAM], np.int8),
        scored=np.array([True]),
    )


@functools.lru_cache(maxsize=4)
def _epoch(key: philox.Key, turn: int, total: int) -> np.ndarray:
    """The order of all images in one pass through the training split. Kept, since batches ask for it in turn."""
    return philox.shuffled(philox.words(key, np.array([turn]), _ORDER, total))[0]


def _drawn_classes(table: ClassTable, key: philox.Key, episodes: np.ndarray, ways: int, images: int) -> np.ndarray:
    """Rows of the class table, int64 [B, ways], distinct; UserError if the split cannot hold such an episode."""
    size, sizes = len(table.names), table.sizes
    if ways > size:
        raise UserError(f"{ways} classes in an episode, but the split has {size}")
    if images > sizes.min():
        name = table.names[int(sizes.argmin())]
        raise UserError(f"{images} images of a class in an episode, but the class '{name}' has only {sizes.min()}")
    return philox.distinct(philox.words(key, episodes, _CLASSES, ways), size)


def _shown(target: np.ndarray, ways: int) -> np.ndarray:
    """Presentations of each class up to and including each step, int32 [B, ways, T].

    int32 halves the time of the sum.
    """
    return np.cumsum(target[:, None] == np.arange(ways)[:, None], axis=2, dtype=np.int32)


def _images(
    table: ClassTable,
    key: philox.Key,
    episodes: np.ndarray,
    classes: np.ndarray,
    most: int,
    target: np.ndarray,
    nth: np.ndarray,
) -> np.ndarray:
    """Image numbers int64 [B, T]: the `nth[b, t]` of `most` distinct draws from class `target[b, t]`."""
    count, ways = classes.shape
    drawn = philox.words(key, episodes, _IMAGES, ways * most).reshape(count, ways, most)
    samples = philox.distinct(drawn, table.sizes[classes])
    # Flat positions, for np.take: of each step's own class in `classes`.
    at = np.arange(count)[:, None] * ways + target
    first = np.take(table.offsets, np.take(classes, at))
    return np.take(table.members, first + np.take(samples, at * most + nth)).astype(np.int64)


def _drawn(words: np.ndarray, available: np.ndarray) -> np.ndarray:
    """A class number for each step, drawn evenly among the classes that still have unseen images: [B, T]."""
    left = available.copy()
    target = np.empty(words.shape, np.int64)
    rows = np.arange(len(words))
    for t in range(words.shape[1]):
        rank = philox.below(words[:, t], (left > 0).sum(axis=1))
        target[:, t] = (np.cumsum(left > 0, axis=1) > rank[:, None]).argmax(axis=1)
        left[rows, target[:, t]] -= 1
    return target


_PLANS: dict[str, Callable[[Any, ClassTable, str, philox.Key, np.ndarray], EpisodePlan]] = {
    "online_few_shot": _stream,
    "delayed_label": _stream,
    "continual": _continual,
    "segmentation_distractors": _segmentation,
    "n_way_k_shot": _k_shot,
    "supervised": _supervised,
}
