"""`objects`, the stand-in for CIFAR and mini-ImageNet: coloured, textured shapes on varied ground.

`objects_supervised` is the stand-in for CIFAR-10 and CIFAR-100 as they are used for ordinary classification: the same
classes in train and test, with many images each. So that these are not learned at once, its classes share colours and
layout and differ by shape and texture alone.

A class is a shape, a pair of colours, a texture and a layout (one large shape, or several). An image of it
puts that at some place, size and angle, shifts its colours, and chooses ground, lighting and noise.
Everything is whole numbers: lengths in 1/16 pixels around the image's centre, x to the right, y down, colours
0..255. There is no floating point, so that the pixels are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.data.sources import Decoded, table_of
from harness.data.synthetic.drawing import ONE, Draws, lit, turned, wave
from harness.util import philox
from harness.util.progress import tracked

VERSION = 2
CLASSES = {"train": 64, "validation": 16, "test": 20}
IMAGES = 60
SUPERVISED_IMAGES = {"train": 200, "test": 50}

_SIDE, _UNIT = 32, 16
_RADIUS = 12 * _UNIT  # of a single shape, before an image's own scale

Field = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _disc(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    # (r^2 - d^2) / 2r is the distance to the rim where it is small, without a square root.
    return (r * r - x * x - y * y) // (2 * r)


def _box(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    return r * 7 // 8 - np.maximum(abs(x), abs(y))


def _bar(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.minimum(r - abs(x), r // 2 - abs(y))


SHAPES: dict[str, Field] = {
    "disc": _disc,
    "box": _box,
    "diamond": lambda x, y, r: (r * 9 // 8 - abs(x) - abs(y)) * 5 // 7,
    "triangle": lambda x, y, r: np.minimum(r * 3 // 4 - y, (r + y - 2 * abs(x)) * 4 // 9),
    "ring": lambda x, y, r: np.minimum(_disc(x, y, r), -_disc(x, y, r * 3 // 8)),
    "cross": lambda x, y, r: np.maximum(
        np.minimum(r - abs(x), r * 3 // 8 - abs(y)), np.minimum(r - abs(y), r * 3 // 8 - abs(x))
    ),
    "bar": _bar,
    "half": lambda x, y, r: np.minimum(_disc(x, y - r // 2, r * 9 // 8), r // 2 - y),
    "crescent": lambda x, y, r: np.minimum(_disc(x, y, r), -_disc(x - r * 5 // 8, y, r * 7 // 8)),
    "frame": lambda x, y, r: np.minimum(_box(x, y, r), np.maximum(abs(x), abs(y)) - r * 3 // 8),
    "arrow": lambda x, y, r: np.maximum(
        np.minimum(r // 4 - y, (r + y - abs(x)) * 5 // 7),
        np.minimum(r - y, np.minimum(r // 4 - abs(x), y + r // 4)),
    ),
    "star": lambda x, y, r: np.maximum(
        (r * 9 // 8 - 2 * abs(x) - abs(y)) * 4 // 9, (r * 9 // 8 - abs(x) - 2 * abs(y)) * 4 // 9
    ),
}
"""Roughly the distance inside the rim of a shape of radius r around the origin; negative outside."""

TEXTURES: dict[str, Field] = {
    "plain": lambda x, y, r: np.zeros_like(x),
    "rows": lambda x, y, r: (3 * y // r) & 1,
    "columns": lambda x, y, r: (3 * x // r) & 1,
    "checks": lambda x, y, r: (5 * x // (2 * r) + 5 * y // (2 * r)) & 1,
    "target": lambda x, y, r: (3 * np.maximum(abs(x), abs(y)) // r) & 1,
    "halves": lambda x, y, r: (x + y > 0).astype(np.int64),
    "core": lambda x, y, r: (4 * (x * x + y * y) < r * r).astype(np.int64),
    "dots": lambda x, y, r: (
        ((2 * x + r // 2) % r - r // 2) ** 2 + ((2 * y + r // 2) % r - r // 2) ** 2 < r * r // 10
    ).astype(np.int64),
}
"""Which of the two colours a point inside a shape has: 0 or 1."""

LAYOUTS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "one": ((0, 0, 15),),
    "beside": ((-10, 0, 9), (10, 0, 9)),
    "stacked": ((0, -10, 9), (0, 10, 9)),
    "unequal": ((-5, 4, 12), (11, -9, 6)),
    "three": ((0, -9, 8), (-10, 8, 8), (10, 8, 8)),
}
"""Where the shapes are, (x, y, radius) in sixteenths of the radius of a single one."""

COLOURS = {
    "red": (214, 52, 48),
    "orange": (232, 136, 38),
    "yellow": (224, 206, 60),
    "green": (92, 176, 62),
    "teal": (44, 150, 140),
    "blue": (52, 104, 204),
    "violet": (124, 70, 186),
    "pink": (222, 110, 170),
    "brown": (126, 84, 50),
    "white": (232, 230, 222),
    "black": (44, 44, 52),
}


@dataclass(frozen=True)
class Kind:
    """What defines a class: `colours` is one where the texture is plain, else two."""

    shape: str
    texture: str
    layout: str
    colours: tuple[str, ...]

    @property
    def name(self) -> str:
        return "_".join((self.layout, self.texture, self.shape, *self.colours))


def generate() -> Decoded:
    """All 100 classes x 60 images, uint8 [6000, 3, 32, 32], classes in order of their splits."""
    found = kinds()
    images = np.concatenate(first_classes(len(found))[0])
    names = [kind.name for kind in found]
    ids = tuple(f"{name}/{image:02d}" for name in names for image in range(IMAGES))
    tables, first = {}, 0
    for split, size in CLASSES.items():
        numbers = range(first, first + size)
        tables[split] = table_of(
            (names[number] for number in numbers), (np.arange(IMAGES) + IMAGES * number for number in numbers)
        )
        first += size
    return Decoded(images, ids, tables)


def first_classes(classes: int, images: int = IMAGES) -> tuple[np.ndarray, None]:
    """The first images of the first classes, uint8 [classes, images, 3, 32, 32]; there are no masks."""
    counted = enumerate(tracked(kinds()[:classes], "painting", "classes"))
    return np.stack([_painted(kind, np.arange(images) + IMAGES * i) for i, kind in counted]), None


def generate_supervised() -> Decoded:
    """20 classes x 250 images, uint8 [5000, 3, 32, 32], the first 200 of each class to train, 50 to test."""
    found = supervised_kinds()
    each, before = sum(SUPERVISED_IMAGES.values()), IMAGES * sum(CLASSES.values())
    # Numbers that no image of `objects` has, so that no image is in both.
    images = np.concatenate([_painted(kind, before + np.arange(each) + each * i) for i, kind in enumerate(found)])
    names = [kind.name for kind in found]
    ids = tuple(f"{name}/{image:03d}" for name in names for image in range(each))
    tables, first = {}, 0
    for split, size in SUPERVISED_IMAGES.items():
        tables[split] = table_of(names, (np.arange(first, first + size) + each * i for i in range(len(names))))
        first += size
    return Decoded(images, ids, tables)


def kinds() -> list[Kind]:
    """The 100 classes, all different."""
    wanted, palette = sum(CLASSES.values()), list(COLOURS)
    found: dict[Kind, None] = {}
    for row in _words("class", np.arange(2 * wanted), 5):
        draws = [int(philox.below(word, size)) for word, size in zip(row, _CHOICES, strict=True)]
        shape, texture, layout = (names[draw] for names, draw in zip(_ASPECTS, draws, strict=False))
        pair = palette[draws[3]], palette[(draws[3] + 1 + draws[4]) % len(COLOURS)]
        found[Kind(shape, texture, layout, pair[:1] if texture == "plain" else pair)] = None
    return list(found)[:wanted]


def supervised_kinds() -> list[Kind]:
    """The 20 classes of `objects_supervised`: ten shapes, plain or dotted, three of a kind."""
    shapes = ("disc", "box", "diamond", "triangle", "ring", "cross", "half", "crescent", "arrow", "star")
    pair = ("teal", "green")
    return [Kind(shape, *look) for shape in shapes for look in (("plain", "three", pair[:1]), ("dots", "three", pair))]


_ASPECTS = (tuple(SHAPES), tuple(TEXTURES), tuple(LAYOUTS))
_CHOICES = (len(SHAPES), len(TEXTURES), len(LAYOUTS), len(COLOURS), len(COLOURS) - 1)


def _words(purpose: str, numbers: np.ndarray, count: int) -> np.ndarray:
    return philox.words(philox.key_of("objects", VERSION, purpose), numbers, 0, count)


def _painted(kind: Kind, numbers: np.ndarray) -> np.ndarray:
    """Images of a class with these numbers [B], uint8 [B, 3, 32, 32]."""
    draws = Draws(_words("image", numbers, 64))
    centres = (np.arange(_SIDE) - _SIDE // 2) * _UNIT + _UNIT // 2
    x, y = centres[None, None, :], centres[None, :, None]
    canvas = _ground(x, y, draws)
    colours = [
        np.stack([np.clip(level + draws.between(-35, 35), 0, 255) for level in COLOURS[name]], axis=1)
        for name in kind.colours
    ]
    x, y = x - draws.between(-4 * _UNIT, 4 * _UNIT), y - draws.between(-4 * _UNIT, 4 * _UNIT)
    x, y = turned(x, y, draws.between(-180, 180))
    scale = draws.between(760, 1150)
    for across, down, size in LAYOUTS[kind.layout]:
        radius = _RADIUS * size * scale // (16 * ONE)
        wobble = draws.between(-_UNIT, _UNIT), draws.between(-_UNIT, _UNIT)
        u = x - _RADIUS * across * scale // (16 * ONE) - wobble[0]
        v = y - _RADIUS * down * scale // (16 * ONE) - wobble[1]
        # Full inside, none outside, fading over one pixel at the rim: 0.._UNIT.
        cover = np.clip(SHAPES[kind.shape](u, v, radius) + _UNIT // 2, 0, _UNIT)[:, None]
        paint = np.where(TEXTURES[kind.texture](u, v, radius)[:, None] == 1, colours[-1], colours[0])
        canvas = (canvas * (_UNIT - cover) + paint * cover) // _UNIT
    return lit(canvas, draws, _words("noise", numbers, canvas[0].size // 4))


def _ground(x: np.ndarray, y: np.ndarray, draws: Draws) -> np.ndarray:
    """Ground int64 [B, 3, 32, 32]: two colours mixed along a slope and in waves."""
    level = draws.between(95, 165)
    first, second = (
        np.clip(np.stack([level + draws.between(-40, 40) for _ in range(3)], axis=1), 0, 255) for _ in range(2)
    )
    slope = draws.between(-128, 128) * x + draws.between(-128, 128) * y
    waves = wave(draws.between(1, 5) * x + draws.between(-5, 5) * y + draws.between(0, 1023))
    waves = waves + wave(draws.between(-9, 9) * x + draws.between(1, 9) * y + draws.between(0, 1023)) // 2
    mix = np.clip(128 + slope // 256 + waves // 4, 0, 255)[:, None]
    return (first * (255 - mix) + second * mix) // 255
