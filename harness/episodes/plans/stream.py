"""Plans of streams: classes in some order, labels some steps late."""

from __future__ import annotations

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import NULL, ORDER, STREAM, EpisodePlan
from harness.episodes.plans.drawing import drawn_classes, drawn_images, earlier_presentations
from harness.protocol.models import StreamProtocol
from harness.util import philox


def plan(protocol: StreamProtocol, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray) -> EpisodePlan:
    """`ways` classes in the protocol's order; labels `label_delay` steps late."""
    shape = protocol.episode
    return streamed(table, key, episodes, shape.ways, shape.presentations, protocol.label_delay, shape.order)


def streamed(
    table: ClassTable,
    key: philox.Key,
    episodes: np.ndarray,
    ways: int,
    presentations: int,
    delay: int,
    order: str = "balanced",
) -> EpisodePlan:
    """Streams of `presentations` x `ways` steps whose labels are `delay` steps late."""
    steps = ways * presentations
    classes = drawn_classes(table, key, episodes, ways, presentations)
    available = table.sizes[classes]
    most = presentations
    if order == "balanced":
        target = philox.shuffled(philox.words(key, episodes, ORDER, steps)) // presentations
    elif order == "cyclic":
        target = np.tile(philox.shuffled(philox.words(key, episodes, ORDER, ways)), (1, presentations))
    else:
        # Of the split, not of the classes drawn: else an episode would depend on the others of its batch.
        most = int(min(steps, table.sizes.max()))
        target = _drawn(philox.words(key, episodes, ORDER, steps), available)
    shot, known = earlier_presentations(target, ways, delay)
    return EpisodePlan(
        episode=episodes,
        classes=classes,
        image=drawn_images(table, key, episodes, classes, most, target, shot),
        target=target,
        shot=shot,
        revealed=known,
        feedback_step=np.maximum(np.arange(steps) - delay, NULL),
        phase=np.full(steps, STREAM, np.int8),
        scored=np.ones(steps, bool),
    )


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
