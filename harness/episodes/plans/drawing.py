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


def presentations_until(target: np.ndarray, ways: int) -> np.ndarray:
    """Presentations of each class up to and including each step, int32 [B, ways, T].

    int32 halves the time of the sum.
    """
    return np.cumsum(target[:, None] == np.arange(ways)[:, None], axis=2, dtype=np.int32)


def drawn_images(
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
    drawn = philox.words(key, episodes, IMAGES, ways * most).reshape(count, ways, most)
    samples = philox.distinct(drawn, table.sizes[classes])
    # Flat positions, for np.take: of each step's own class in `classes`.
    at = np.arange(count)[:, None] * ways + target
    first = np.take(table.offsets, np.take(classes, at))
    return np.take(table.members, first + np.take(samples, at * most + nth)).astype(np.int64)
