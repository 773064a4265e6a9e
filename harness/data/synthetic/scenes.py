"""`scenes`, the stand-in for FSS-1000: one object on textured, cluttered ground, with its mask.

A class is an outline, its proportions, whether it has a hole, a texture and a pair of colours. An image of it
puts the object at some place, angle and size (8 to 40 % of the image), shifts its colours, and chooses the
ground, lighting and noise. Small blobs lie under the object, many in its colours, so that colour alone does not
find it. Everything is whole numbers, see `harness.data.synthetic.drawing`: lengths in 1/16 pixels, x to the right, y
down; points of an object in 1/1024 of its radius around its centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np

from harness.data.sources import Decoded, table_of
from harness.data.synthetic.drawing import ONE, Draws, lit, turned, wave
from harness.data.synthetic.objects import COLOURS
from harness.util import philox

VERSION = 1
CLASSES = {"train": 120, "validation": 30, "test": 50}
IMAGES = 12

_SIDE, _UNIT, _FINE = 64, 16, 2  # each pixel is painted as 2x2 points
_LARGEST = 60 * _UNIT  # no object is wider or higher
_BLOBS = 8
_FAR = 8 * ONE  # points farther from an object than this are taken for this far

_HALF_TANGENTS = {3: 1774, 4: 1024, 5: 744, 8: 424, 10: 333, 12: 274, 16: 204}
"""Tangent of half the angle between neighbouring corners, by their number, times 1024."""

OUTLINES: dict[str, tuple[int, ...]] = {
    "triangle": (1024,) * 3,
    "square": (1024,) * 4,
    "kite": (1024, 640, 420, 640),
    "pentagon": (1024,) * 5,
    "disc": (1024,) * 16,
    "star4": (1024, 400) * 4,
    "star5": (1024, 450) * 5,
    "star6": (1024, 560) * 6,
    "cross": (1024, 1024, 420, 420) * 4,
    "flower": (1024, 680) * 8,
    "hourglass": (1024, 960, 720, 460, 360, 460, 720, 960) * 2,
    "drop": (1024, 760, 580, 500, 470, 460, 460, 470, 480, 470, 460, 460, 470, 500, 580, 760),
    "fish": (1000, 720, 580, 520, 480, 420, 340, 760, 560, 760, 340, 420, 480, 520, 580, 720),
    "heart": (1024, 860, 800, 860, 940, 960, 860, 640, 420, 640, 860, 960, 940, 860, 800, 860),
    "half": (560, 640, 900, 1024, 1000, 540, 400, 360, 340, 360, 400, 540, 1000, 1024, 900, 640),
    "blob": (),
}
"""Distance of an outline's corners from the centre, at equal angles; a blob's are drawn anew for each class."""

_BLOB_CORNERS = 10
_STRETCHES = (1024, 760, 560)  # of the height
_HOLES = (0, 0, 0, 440)
_TEXTURES = ("plain", "rows", "columns", "checks", "dots", "rings", "halves", "core", "diagonals")
_FREQUENCIES = (2, 3, 4)


@dataclass(frozen=True)
class Kind:
    """What defines a class: `colours` is one where the texture is plain, else two."""

    outline: str
    corners: tuple[int, ...]
    stretch: int
    hole: int
    texture: str
    frequency: int
    colours: tuple[str, ...]


def generate() -> Decoded:
    """200 classes x 12 images: uint8 [2400, 3, 64, 64], masks [2400, 1, 64, 64]; classes in order of their splits."""
    found = kinds()
    images, masks = (np.concatenate(each) for each in first_classes(len(found)))
    names = [f"{i:03d}_{kind.texture}_{kind.outline}" for i, kind in enumerate(found)]
    ids = tuple(f"{name}/{image:02d}" for name in names for image in range(IMAGES))
    tables, first = {}, 0
    for split, size in CLASSES.items():
        numbers = range(first, first + size)
        rows = (np.arange(IMAGES) + IMAGES * number for number in numbers)
        tables[split] = table_of((names[number] for number in numbers), rows)
        first += size
    return Decoded(images, ids, tables, masks)


def first_classes(classes: int, images: int = IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """The first images of the first classes, uint8 [classes, images, 3, 64, 64], and masks [..., 1, 64, 64]."""
    painted = [_painted(kind, i) for i, kind in enumerate(kinds()[:classes])]
    found, masks = (np.stack(each)[:, :images] for each in zip(*painted, strict=True))
    return found, masks


def kinds() -> list[Kind]:
    """The 200 classes, all different."""
    wanted, palette = sum(CLASSES.values()), list(COLOURS)
    found: dict[Kind, None] = {}
    for row in _words("class", np.arange(2 * wanted), 8 + _BLOB_CORNERS):
        draws = iter(row)

        def below(limit: int, draws: Iterator[np.ndarray] = draws) -> int:
            return int(philox.below(next(draws), limit))

        outline, stretch = tuple(OUTLINES)[below(len(OUTLINES))], _STRETCHES[below(len(_STRETCHES))]
        hole, texture = _HOLES[below(len(_HOLES))], _TEXTURES[below(len(_TEXTURES))]
        frequency, first = _FREQUENCIES[below(len(_FREQUENCIES))], below(len(palette))
        second = (first + 1 + below(len(palette) - 1)) % len(palette)
        corners = OUTLINES[outline] or tuple(460 + below(565) for _ in range(_BLOB_CORNERS))
        plain = texture == "plain"
        colours = (palette[first],) if plain else (palette[first], palette[second])
        found[Kind(outline, corners, stretch, hole, texture, 0 if plain else frequency, colours)] = None
    return list(found)[:wanted]


def _words(purpose: str, numbers: np.ndarray, count: int) -> np.ndarray:
    return philox.words(philox.key_of("scenes", VERSION, purpose), numbers, 0, count)


def _painted(kind: Kind, number: int) -> tuple[np.ndarray, np.ndarray]:
    """The 12 images of a class, uint8 [12, 3, 64, 64], and their masks, uint8 [12, 1, 64, 64]."""
    numbers = number * IMAGES + np.arange(IMAGES)
    draws = Draws(_words("image", numbers, 168))
    colours = [
        np.stack([np.clip(level + draws.between(-42, 42), 0, 255) for level in COLOURS[name]], axis=1)
        for name in (kind.colours[0], kind.colours[-1])
    ]
    canvas = _ground(colours, draws)
    for _ in range(_BLOBS):
        canvas = _blob(canvas, colours, draws)
    u, v = _object_points(kind, draws)
    level = _level(kind, u, v)
    inside = (level <= ONE) & (level > kind.hole)
    second = inside & (_texture(kind, u, v, level) == 1)
    cover, accent = (_per_pixel(points)[:, None] for points in (inside, second))
    full = _FINE * _FINE
    canvas = (canvas * (full - cover) + colours[0] * (cover - accent) + colours[1] * accent) // full
    noise = _words("noise", numbers, canvas[0].size // 4)
    return lit(canvas, draws, noise), (2 * cover >= full).astype(np.uint8)


def _per_pixel(points: np.ndarray) -> np.ndarray:
    """How many of a pixel's points are true, int64 [B, 64, 64] from bool [B, 128, 128]."""
    return points.reshape(len(points), _SIDE, _FINE, _SIDE, _FINE).sum(axis=(2, 4))


def _object_points(kind: Kind, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """The painted points as points of the object, int64 [B, 128, 128] each: placed, turned and scaled."""
    half = draws.between(-380, 380)
    share = draws.between(100, 390)  # of the image, in thousandths
    within, area = _reference(kind)
    x, y = turned(within[0], within[1], half)
    boxes = [(flat.min(axis=-1)[..., None], flat.max(axis=-1)[..., None]) for flat in (x, y)]
    sizes = [high - low for low, high in boxes]
    wanted = np.array([isqrt(int(s) * (_SIDE * _UNIT) ** 2 * ONE * ONE // (1000 * area)) for s in share.ravel()])
    radius = np.minimum(wanted[:, None, None], _LARGEST * ONE // np.maximum(*sizes))
    fine = (np.arange(_SIDE * _FINE) * 2 + 1) * _UNIT // (2 * _FINE)
    placed = []
    for (low, _), size, points in zip(boxes, sizes, (fine[None, None, :], fine[None, :, None]), strict=True):
        extent = size * radius // ONE
        over = extent // 10  # so much of an object may lie outside
        room = _SIDE * _UNIT - extent + 2 * over
        corner = draws.between(0, ONE) * room // ONE - over
        placed.append((points - corner + low * radius // ONE) * ONE // radius)
    u, v = turned(placed[0], placed[1], -half)
    return np.clip(u, -_FAR, _FAR), np.clip(v, -_FAR, _FAR)


def _reference(kind: Kind) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """Points of a grid inside the object, int64 [1, 1, n] (x and y), and its area in squares of 1/1024 radius."""
    step = 32
    grid = np.arange(-ONE, ONE + step, step)
    u, v = (each.reshape(1, 1, -1) for each in np.meshgrid(grid, grid))
    level = _level(kind, u, v)
    outer = (level <= ONE).ravel()
    return (u[..., outer], v[..., outer]), int(((level <= ONE) & (level > kind.hole)).sum()) * step * step


def _level(kind: Kind, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How far out points lie, int32: 0 at the centre, 1024 on the outline, more outside."""
    x, y = np.array([ONE]), np.array([0])
    around = []
    for radius in kind.corners:
        around.append((int(x[0]) * radius // ONE, int(y[0]) * radius * kind.stretch // (ONE * ONE)))
        x, y = turned(x, y, -_HALF_TANGENTS[len(kind.corners)])
    # Small enough for 32 bits: 8192 * 1024 * 2.
    across, down = u.astype(np.int32), v.astype(np.int32)
    sides = [down * a - across * b for a, b in around]
    out = np.full(sides[0].shape, 2 * ONE, np.int32)
    for i, (a, b) in enumerate(around):
        c, d = around[(i + 1) % len(around)]
        left, right = sides[i], sides[(i + 1) % len(around)]
        # Between the rays through two neighbouring corners the level grows evenly.
        np.copyto(out, (left - right) // max((a * d - b * c) // ONE, 1), where=(left >= 0) & (right <= 0))
    return out


def _texture(kind: Kind, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Which of the two colours points of an object have: 0 or 1."""
    f = kind.frequency
    if kind.texture == "rows":
        return (f * v >> 10) & 1
    if kind.texture == "columns":
        return (f * u >> 10) & 1
    if kind.texture == "checks":
        return ((f * u >> 10) + (f * v >> 10)) & 1
    if kind.texture == "dots":
        p, q = ((f * u + 256) & 1023) - 512, ((f * v + 256) & 1023) - 512
        return (p * p + q * q < 330**2).astype(np.int64)
    if kind.texture == "rings":
        return (f * level >> 10) & 1
    if kind.texture == "halves":
        return (u > 0).astype(np.int64)
    if kind.texture == "core":
        return (level < 250 + 130 * f).astype(np.int64)
    if kind.texture == "diagonals":
        return (f * (u + v) * 3 >> 12) & 1
    return np.zeros_like(level)


def _ground(colours: list[np.ndarray], draws: Draws) -> np.ndarray:
    """Ground int64 [B, 3, 64, 64]: two tones mixed along a slope and in waves, smoothly or with hard edges."""
    tones = [np.stack([draws.between(30, 225) for _ in range(3)], axis=1) for _ in range(3)]
    gaps = [np.minimum(*(abs(tone - colour).sum(axis=1, keepdims=True) for colour in colours)) for tone in tones]
    # The tone that is least like the object, so that it seldom vanishes, and another near it.
    first = np.choose(np.argmax(gaps, axis=0), tones)
    spread = np.stack([draws.between(-110, 110) for _ in range(3)], axis=1)
    place = np.arange(_SIDE) - _SIDE // 2
    x, y = place[None, None, :], place[None, :, None]
    slope = draws.between(-5, 5) * x + draws.between(-5, 5) * y
    waves = wave(draws.between(-60, 60) * x + draws.between(12, 60) * y + draws.between(0, 1023))
    waves = waves + wave(draws.between(20, 120) * x + draws.between(-120, 120) * y + draws.between(0, 1023)) // 2
    mix = np.clip(512 + slope + waves, 0, ONE)
    hard = draws.between(0, 2) == 0
    mix = np.where(hard, (mix > 512) * ONE, mix)[:, None]
    return np.clip(first + spread * mix // ONE, 0, 255)


def _blob(canvas: np.ndarray, colours: list[np.ndarray], draws: Draws) -> np.ndarray:
    """The canvas with one more blob: a small disc, box or diamond, of one of the object's colours or any other."""
    place = np.arange(_SIDE) * _UNIT + _UNIT // 2
    x = place[None, None, :] - draws.between(0, _SIDE * _UNIT)
    y = place[None, :, None] - draws.between(0, _SIDE * _UNIT)
    radius, form = draws.between(3 * _UNIT, 6 * _UNIT), draws.between(0, 2)
    wide = draws.between(700, 1450)
    x, y = turned(x, y, draws.between(-ONE, ONE))
    x, y = abs(x) * ONE // wide, abs(y)
    rim = [(radius * radius - x * x - y * y) // (2 * radius), radius - np.maximum(x, y), (radius * 5 // 4 - x - y)]
    distance = np.where(form == 0, rim[0], np.where(form == 1, rim[1], rim[2]))
    cover = np.clip(distance + _UNIT // 2, 0, _UNIT)[:, None]
    other = np.stack([draws.between(30, 235) for _ in range(3)], axis=1)
    choice = draws.between(0, 2)[:, None]
    paint = np.where(choice == 0, colours[0], np.where(choice == 1, colours[1], other))
    return (canvas * (_UNIT - cover) + paint * cover) // _UNIT
