"""A data set in memory: uint8 images, class tables of its splits, and a fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.cards import Card
from harness.util.errors import UserError

SPLITS = ("train", "validation", "test")
"""Splits in the order in which they are always gone through; a data set may lack 'validation'."""


@dataclass(frozen=True)
class FixedImages:
    """What each step of E episodes of T steps shows where these are fixed, and not drawn: image numbers and classes
    (rows of the class table), int64 [E, T] each."""

    image: np.ndarray
    row: np.ndarray


@dataclass(frozen=True)
class ClassTable:
    """The classes of one split and which images belong to each (compressed rows).

    Class c (0..len(names)-1) has the images `members[offsets[c]:offsets[c + 1]]`, each turned
    counter-clockwise by `rotations[c]` quarter turns when it is shown (Omniglot's rotated classes share pixels).
    `fixed` is there where the protocol takes the episodes of the split from a file.
    """

    names: tuple[str, ...]
    offsets: np.ndarray  # [classes + 1] int64
    members: np.ndarray  # [sum of class sizes] int32, image numbers
    rotations: np.ndarray  # [classes] int8, quarter turns counter-clockwise
    fixed: FixedImages | None = None

    @property
    def sizes(self) -> np.ndarray:
        """Images of each class, [classes] int64."""
        return np.diff(self.offsets)


@dataclass(frozen=True, repr=False)
class Dataset:
    """Decoded images and the class tables of its splits (of `SPLITS`).

    `images` is uint8 [N, C, H, W] (usually memory-mapped); `image_ids` name each image as its source does;
    `masks` is uint8 [N, 1, H, W] with 1 on the object and 0 elsewhere, None where the data set has no masks;
    `fingerprint` is the SHA-256 (hex) of pixels, masks and class tables.
    """

    card: Card
    images: np.ndarray
    image_ids: tuple[str, ...]
    tables: dict[str, ClassTable]
    fingerprint: str
    source: str
    masks: np.ndarray | None = None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split} {len(table.names)}" for split, table in self.tables.items())
        return f"{self.name}: {len(self.images)} images {list(self.images.shape[1:])}, classes: {sizes}"

    @property
    def name(self) -> str:
        return self.card.name

    def table(self, split: str) -> ClassTable:
        """The class table of a split; UserError where the data set has none of that name."""
        if split not in self.tables:
            raise UserError(f"the data set '{self.name}' has no {split} split; it has {', '.join(self.tables)}")
        return self.tables[split]


def card_table(card: Card, split: str) -> ClassTable:
    """A class table with as many classes and images as a card says that the split has, and no pixels.

    Plans drawn from it are those of the real data wherever the card's sizes are exact. UserError where the data set has
    no such split.
    """
    if split not in card.classes:
        raise UserError(f"the data set '{card.name}' has no {split} split; it has {', '.join(card.classes)}")
    classes, images = card.classes[split], card.images_per_class[split]
    return ClassTable(
        names=tuple(f"class {c}" for c in range(classes)),
        offsets=np.arange(classes + 1, dtype=np.int64) * images,
        members=np.arange(classes * images, dtype=np.int32),
        rotations=np.zeros(classes, np.int8),
    )
