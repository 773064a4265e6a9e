"""Cards: what is known of each data set without loading it (used by validation, `list` and `show`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """Facts of one data set.

    `classes` and `images_per_class` are per split ('train', 'validation', 'test'; a data set for supervised
    learning may lack 'validation'); `images_per_class` is the smallest number of images that any class of the
    split has. `disjoint` tells whether the splits have different classes (few-shot) or the same (supervised).
    `image_shape` is (channels, height, width). `mean` and `std` (per channel, of values in 0..1, over the
    training classes) are what images are normalised with on the device.
    """

    name: str
    title: str
    image_shape: tuple[int, int, int]
    classes: dict[str, int]
    images_per_class: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stand_in: bool = False
    disjoint: bool = True
    masks: bool = False


def _splits(train: int, validation: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": validation, "test": test}


CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card(
            "omniglot",
            "Omniglot, Vinyals split, four rotations as classes (28x28, ink = 1)",
            (1, 28, 28),
            _splits(4112, 688, 1692),
            _splits(20, 20, 20),
            (0.0,),
            (1.0,),
        ),
        Card(
            "omniglot_lake",
            "Omniglot, Lake's background/evaluation split, no rotations (28x28, ink = 1)",
            (1, 28, 28),
            _splits(869, 95, 659),
            _splits(20, 20, 20),
            (0.0,),
            (1.0,),
        ),
        Card(
            "cifar_fs",
            "CIFAR-FS: CIFAR-100 in the 64/16/20 class split of Bertinetto et al. (32x32 RGB)",
            (3, 32, 32),
            _splits(64, 16, 20),
            _splits(600, 600, 600),
            (0.5088, 0.4917, 0.4437),
            (0.2674, 0.2564, 0.2772),
        ),
        Card(
            "glyphs",
            "stand-in for Omniglot: generated stroke characters (28x28, ink = 1)",
            (1, 28, 28),
            _splits(200, 50, 100),
            _splits(20, 20, 20),
            (0.0,),
            (1.0,),
            stand_in=True,
        ),
        Card(
            "objects",
            "stand-in for CIFAR and mini-ImageNet: generated coloured, textured shapes (32x32 RGB)",
            (3, 32, 32),
            _splits(64, 16, 20),
            _splits(60, 60, 60),
            (0.493, 0.479, 0.465),
            (0.173, 0.154, 0.164),
            stand_in=True,
        ),
    )
}
"""Every data set the harness can load, by name."""
