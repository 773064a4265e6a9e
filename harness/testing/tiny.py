"""Data without files: tiny data sets of random pixels, and episodes on them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.data.cards import CARDS
from harness.data.dataset import SPLITS, ClassTable, Dataset
from harness.util import philox

if TYPE_CHECKING:
    from harness.data.user.model import OwnData
    from harness.episodes.source import Episodes, EpisodeSource
    from harness.protocol.models import AnyProtocol

_CLASSES, _IMAGES = 8, 6


def tiny_dataset(
    data: str | OwnData = "objects",
    classes: int = _CLASSES,
    images: int = _IMAGES,
    seed: int = 0,
    turned: bool = False,
    masks: bool | None = None,
) -> Dataset:
    """A data set in memory with random pixels, in the image shape, normalisation and splits of `data`.

    Each split has `classes` classes of `images` images; classes of different splits have nothing in common, or the
    same names where the data set is a supervised one. With `turned`, classes are turned by 0, 1, 2, 3, 0, ...
    quarters when they are shown. It has random masks if `masks` says so, or (None) if that data set has masks. It
    is a pure function of its arguments.
    """
    from harness.data.cache import fingerprint

    card = CARDS[data] if isinstance(data, str) else data.card
    name, splits = card.name, [split for split in SPLITS if split in (card.classes or ("train", "test"))]
    per_split = classes * images
    tables = {
        split: ClassTable(
            names=tuple(f"{split} class {c}" if card.disjoint else f"class {c}" for c in range(classes)),
            offsets=np.arange(classes + 1, dtype=np.int64) * images,
            members=np.arange(place * per_split, (place + 1) * per_split, dtype=np.int32),
            rotations=(np.arange(classes) * turned % 4).astype(np.int8),
        )
        for place, split in enumerate(splits)
    }
    numbers = np.arange(len(splits) * per_split)
    shown = _random(philox.key_of("tiny", name, seed), numbers, card.image_shape)
    wanted = card.masks if masks is None else masks
    objects = (
        _random(philox.key_of("tiny masks", name, seed), numbers, (1, *card.image_shape[1:])) & 1 if wanted else None
    )
    return Dataset(
        card=replace(
            card,
            classes=dict.fromkeys(splits, classes),
            images_per_class=dict.fromkeys(splits, images),
            masks=wanted,
        ),
        images=shown,
        image_ids=tuple(f"tiny-{n}" for n in numbers),
        tables=tables,
        fingerprint=fingerprint(shown, tables, objects),
        source="random pixels",
        masks=objects,
    )


def tiny_episodes(
    protocol: AnyProtocol, split: str = "test", seed: int = 0, numbers: Sequence[int] = (0, 1)
) -> Episodes:
    """Episodes of `protocol` on a `tiny_dataset` that is large enough for it.

    Where the protocol is supervised that has 48 images a split; numbers of test episodes are those of its images.
    They are drawn, also where a file fixes the protocol's own.
    """
    return tiny_source(protocol).episodes(protocol.without_episode_file, split, seed, numbers)


def tiny_source(protocol: AnyProtocol) -> EpisodeSource:
    """What `tiny_episodes` draws from."""
    needs = protocol.needs
    return _source(protocol.dataset, max(_CLASSES, needs.classes + 2), max(_IMAGES, needs.images + 1))


@functools.lru_cache(maxsize=64)
def _source(data: str | OwnData, classes: int, images: int) -> EpisodeSource:
    from harness.episodes.source import EpisodeSource

    return EpisodeSource(tiny_dataset(data, classes, images))


def _random(key: philox.Key, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Random bytes, uint8 [len(numbers), *shape]."""
    words = philox.words(key, numbers, 0, int(np.prod(shape)))
    return (words & np.uint64(0xFF)).astype(np.uint8).reshape(-1, *shape)
