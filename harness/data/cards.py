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
    training classes) are what images are normalised with on the device. `ink` tells whether pixels are the share of
    ink, which is dark on the paper of a picture.
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
    ink: bool = False


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
            ink=True,
        ),
        Card(
            "omniglot_lake",
            "Omniglot, Lake's background/evaluation split, no rotations (28x28, ink = 1)",
            (1, 28, 28),
            _splits(869, 95, 659),
            _splits(20, 20, 20),
            (0.0,),
            (1.0,),
            ink=True,
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
            "mini_imagenet",
            "mini-ImageNet in the 64/16/20 class split of Ravi and Larochelle (84x84 RGB)",
            (3, 84, 84),
            _splits(64, 16, 20),
            _splits(600, 600, 600),
            (0.4709, 0.4503, 0.4055),
            (0.2714, 0.2646, 0.2782),
        ),
        Card(
            "cifar10",
            "CIFAR-10, supervised: the same 10 classes in train and test (32x32 RGB)",
            (3, 32, 32),
            {"train": 10, "test": 10},
            {"train": 5000, "test": 1000},
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
            disjoint=False,
        ),
        Card(
            "cifar100",
            "CIFAR-100, supervised: the same 100 classes in train and test (32x32 RGB)",
            (3, 32, 32),
            {"train": 100, "test": 100},
            {"train": 500, "test": 100},
            (0.5071, 0.4865, 0.4409),
            (0.2673, 0.2564, 0.2762),
            disjoint=False,
        ),
        Card(
            "fss1000",
            "FSS-1000: images with masks, official test classes, 520/240 division of the others (224x224 RGB)",
            (3, 224, 224),
            _splits(520, 240, 240),
            _splits(10, 10, 9),
            # Those of ImageNet, as is usual for this data set; not measured on it.
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            masks=True,
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
            ink=True,
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
        Card(
            "scenes",
            "stand-in for FSS-1000: generated objects with masks on textured, cluttered ground (64x64 RGB)",
            (3, 64, 64),
            _splits(120, 30, 50),
            _splits(12, 12, 12),
            (0.489, 0.480, 0.471),
            (0.277, 0.261, 0.269),
            stand_in=True,
            masks=True,
        ),
        Card(
            "objects_supervised",
            "stand-in for CIFAR-10/100, supervised: generated shapes, the same classes in train and test (32x32 RGB)",
            (3, 32, 32),
            {"train": 20, "test": 20},
            {"train": 200, "test": 50},
            (0.420, 0.498, 0.480),
            (0.165, 0.128, 0.128),
            stand_in=True,
            disjoint=False,
        ),
    )
}
"""Every data set the harness can load, by name."""
