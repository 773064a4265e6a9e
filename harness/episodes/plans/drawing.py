"""What the plans of several kinds draw: classes, images, and how often each class was shown."""

from __future__ import annotations

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import CLASSES, IMAGES
from harness.util import philox
from harness.util.errors import UserError


def drawn_classes(table: ClassTable, key: philox.Key, episodes: np.ndarray, ways: int, images: int) -> np.ndarray:
    """Rows of the class table, int64 [B, ways], distinct; UserError if the split cannot hold such an episode."""
    size, sizes = len(table.names), table.sizes
    if ways > size:
        raise UserError(f"{ways} classes in an episode, but the split has {size}")
    if images > sizes.min():
        name = table.names[int(sizes.argmin())]
        raise UserError(f"{images} images of a class in an episode, but the class '{name}' has only {sizes.min()}")
    return philox.distinct(philox.words(key, episodes, CLASSES, ways), size)


def earlier_presentations(target: np.ndarray, ways: int, delay: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """How often the class of step t was shown before it, and by step t - delay; int64 [B, T] each.

    `target` are class numbers [B, T] below `ways`. Time and memory grow with the steps, whatever the number of classes.
    """
    count, steps = target.shape
    # NumPy sorts 16 bits in linear time.
    time = np.argsort(target.astype(np.uint16 if ways <= 2**16 else np.int64), axis=1, kind="stable")
    rows = np.arange(count)[:, None]
    flat = time + rows * steps
    classes = np.take(target, flat)  # in order of class, then time
    first = np.zeros((count, steps), np.int64)  # the place in that order where the class begins
    np.multiply(classes[:, 1:] != classes[:, :-1], np.arange(1, steps), out=first[:, 1:])
    np.maximum.accumulate(first, axis=1, out=first)
    shown = np.empty((count, steps), np.int64)
    shown.ravel()[flat] = np.arange(steps) - first
    if delay == 1:
        return shown, shown.copy()
    known = np.zeros_like(shown)
    if delay < steps:
        keys = (rows * ways + classes) * steps + time
        wanted = (rows * ways + target[:, delay:]) * steps + np.arange(steps - delay)
        begins = np.empty((count, steps), np.int64)
        begins.ravel()[flat] = first + rows * steps
        known[:, delay:] = np.searchsorted(keys.ravel(), wanted.ravel(), "right").reshape(wanted.shape)
        known[:, delay:] -= begins[:, delay:]
    return shown, known


def drawn_images(
    table: ClassTable,
    key: philox.Key,
    episodes: np.ndarray,
    classes: np.ndarray,
    most: int,
    target: np.ndarray,
    nth: np.ndarray,
) -> np.ndarray:
    """Image numbers int64 [B, T]: the `nth[b, t]` of `most` distinct draws from class `target[b, t]`.

    Memory grows with ways x most, and `most` is all steps where classes are drawn independently (order 'iid').
    """
    count, ways = classes.shape
    drawn = philox.words(key, episodes, IMAGES, ways * most).reshape(count, ways, most)
    used = int(nth.max(initial=0)) + 1  # later draws do not change the earlier ones
    samples = philox.distinct(drawn[..., :used], table.sizes[classes])
    # Flat positions, for np.take: of each step's own class in `classes`.
    at = np.arange(count)[:, None] * ways + target
    first = np.take(table.offsets, np.take(classes, at))
    return np.take(table.members, first + np.take(samples, at * used + nth)).astype(np.int64)
