"""`glyphs`, the stand-in for Omniglot: characters of two to four strokes, generated from integers alone.

A class is a set of strokes, each a quadratic Bezier curve (or a straight line) between points of a 5x5 grid.
A drawing of it moves every control point a little, turns, slants, scales and shifts the whole, and takes a
pen of its own width. Coordinates are whole 1/32 pixels around the centre, x to the right, y down; there is no
floating point, so that the pixels are the same on every machine.
"""

from __future__ import annotations

from math import isqrt

import numpy as np

from harness.data.sources import Decoded, table_of
from harness.util import philox

VERSION = 2
CLASSES = {"train": 200, "validation": 50, "test": 100}
DRAWINGS = 20

_SIDE, _UNIT, _STROKES, _POINTS = 28, 32, 4, 32
_PITCH, _SIZE = 4 * _UNIT, 18 * _UNIT
_JITTER, _SHIFT = 64, 5 * _UNIT // 2
_POINTS_OF_GRID = [(x, y) for y in range(-2, 3) for x in range(-2, 3)]
_BENDS = (0, 0, 0, -6, -4, 4, 6)
"""How far the middle control point may lie off the straight line, in eighths of the length of the stroke."""
_FINE = 8  # distances are measured in whole 1/8 pixels
_PENS = range(4, 8)  # radius of the pen, in 1/8 pixels
_FAR = 24  # no pen reaches this far, in 1/8 pixels
_BROAD = 12  # the pen with which characters are compared, in 1/8 pixels


def generate() -> Decoded:
    """350 classes x 20 drawings, uint8 [7000, 1, 28, 28], ink = 255 on 0; classes in the splits' order."""
    count = sum(CLASSES.values())
    images = first_classes(count)[0].reshape(-1, 1, _SIDE, _SIDE)
    names = [f"glyph{number:03d}" for number in range(count)]
    ids = tuple(f"{name}/{drawing:02d}" for name in names for drawing in range(DRAWINGS))
    tables, first = {}, 0
    for split, size in CLASSES.items():
        numbers = range(first, first + size)
        rows = (np.arange(DRAWINGS) + DRAWINGS * number for number in numbers)
        tables[split] = table_of((names[number] for number in numbers), rows)
        first += size
    return Decoded(images, ids, tables)


def first_classes(classes: int, images: int = DRAWINGS) -> tuple[np.ndarray, None]:
    """The first images of the first classes, uint8 [classes, images, 1, 28, 28]; there are no masks."""
    return _drawn(_characters(classes)).reshape(classes, DRAWINGS, 1, _SIDE, _SIDE)[:, :images], None


def _words(purpose: str, numbers: np.ndarray, count: int) -> np.ndarray:
    return philox.words(philox.key_of("glyphs", VERSION, purpose), numbers, 0, count)


def _characters(count: int) -> np.ndarray:
    """Control points int64 [count, 4, 3, 2] of the first characters drawn that no earlier one looks like."""
    drawn = np.array([_character(row) for row in _words("class", np.arange(2 * count), _STROKES * 4 + 1)])
    x, y = np.moveaxis(_curves(drawn), -1, 0)
    broad = (_squared_distance(x, y) <= _BROAD**2).reshape(len(drawn), -1).astype(np.int32)
    both, each = broad @ broad.T, broad.sum(axis=1)
    alike = 2 * both > each[:, None] + each - both  # they share more than half of what either covers
    chosen: list[int] = []
    for number in range(len(drawn)):
        if not alike[number, chosen].any():
            chosen.append(number)
    return drawn[chosen[:count]]


def _character(words: np.ndarray) -> np.ndarray:
    """Control points int64 [4 strokes, 3 points, (x, y)] of a class; absent strokes repeat the first."""
    strokes: list[list[tuple[int, int]]] = []
    used: list[tuple[int, int]] = []
    end = (0, 0)
    for number in range(2 + int(philox.below(words[-1], 3))):
        draws = words[4 * number : 4 * number + 4]
        # Half of the strokes begin where the last one ended, as handwriting does.
        fresh = number == 0 or bool(philox.below(draws[0], 2))
        start = _chosen(draws[1], [p for p in _POINTS_OF_GRID if p not in used]) if fresh else end
        free = [p for p in _POINTS_OF_GRID if p not in used]
        end = _chosen(draws[2], [(x, y) for x, y in free if max(abs(x - start[0]), abs(y - start[1])) >= 2])
        used += [start, end]
        bend = _BENDS[int(philox.below(draws[3], len(_BENDS)))]
        strokes.append([start, _middle(start, end, bend), end])
    points = np.array(strokes)
    points[:, [0, 2]] *= _PITCH
    return _fitted(np.concatenate([points, points[:1].repeat(_STROKES - len(points), axis=0)]))


def _chosen(word: np.ndarray, points: list[tuple[int, int]]) -> tuple[int, int]:
    return points[int(philox.below(word, len(points)))]


def _middle(start: tuple[int, int], end: tuple[int, int], bend: int) -> tuple[int, int]:
    """The middle control point: off the straight line by `bend` eighths of its length."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    return (
        (4 * (start[0] + end[0]) - dy * bend) * _PITCH // 8,
        (4 * (start[1] + end[1]) + dx * bend) * _PITCH // 8,
    )


def _fitted(points: np.ndarray) -> np.ndarray:
    """The character's points centred, and grown to the size that people write."""
    shape = _curves(points[None])[0]
    low, high = shape.min(axis=0), shape.max(axis=0)
    return (points * 2 - low - high) * _SIZE // (2 * int((high - low).max()))


def _drawn(characters: np.ndarray) -> np.ndarray:
    """uint8 [classes * 20, 1, 28, 28]: twenty drawings of each character [classes, 4, 3, 2]."""
    total = len(characters) * DRAWINGS
    corners = _STROKES * 3 * 2
    words = _words("drawing", np.arange(total), corners + 7)
    absent = np.repeat((characters == characters[:, :1]).all(axis=(2, 3)), DRAWINGS, axis=0)
    control = np.repeat(characters, DRAWINGS, axis=0)
    control = control + _within(words[:, :corners], _JITTER).reshape(control.shape)
    control = np.where(absent[:, :, None, None], control[:, :1], control)
    # In 1/1024: the sine of a turn by up to 14 degrees, a slant, and scales (which absorb the turn's cosine).
    turn, slant = _within(words[:, corners], 250), _within(words[:, corners + 1], 200)
    wide, tall = _within(words[:, corners + 2], 250) + 1024, _within(words[:, corners + 3], 250) + 1024
    shift = _within(words[:, corners + 4 : corners + 6], _SHIFT)
    x, y = np.moveaxis(_curves(control), -1, 0)
    x, y = (
        ((wide[:, None] * x + (slant - turn)[:, None] * y) >> 10) + shift[:, :1],
        ((turn[:, None] * x + tall[:, None] * y) >> 10) + shift[:, 1:],
    )
    nearest = _squared_distance(x, y)
    pen = philox.below(words[:, corners + 6], len(_PENS))
    return _ink_table()[pen[:, None, None], nearest][:, None]


def _within(words: np.ndarray, reach: int) -> np.ndarray:
    """Whole numbers -reach..reach, those near 0 likelier (the mean of the two halves of each word)."""
    low, high = words & np.uint64(0xFFFF), words >> np.uint64(16)
    return (((low + high) * np.uint64(2 * reach + 1)) >> np.uint64(17)).astype(np.int64) - reach


def _curves(control: np.ndarray) -> np.ndarray:
    """Points along the strokes, int64 [N, 4 * 32, 2], of control points [N, 4, 3, 2]."""
    last = _POINTS - 1
    t = np.arange(_POINTS)
    weights = np.stack([(last - t) ** 2, 2 * t * (last - t), t**2])
    points = np.einsum("kt,nskc->nstc", weights, control) // last**2
    return points.reshape(len(control), -1, 2)


def _squared_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """From each pixel's centre to the nearest point, squared 1/8 pixels, at most 24**2: int16 [N, 28, 28]."""
    centres = (np.arange(_SIDE) - _SIDE // 2) * _FINE + _FINE // 2
    nearest = np.full((len(x), _SIDE, _SIDE), _FAR**2, np.int16)
    across, down = (
        (np.clip(centres - (at * _FINE // _UNIT)[:, :, None], -_FAR, _FAR) ** 2).astype(np.int16) for at in (x, y)
    )
    for point in range(x.shape[1]):
        np.minimum(nearest, down[:, point, :, None] + across[:, point, None, :], out=nearest)
    return nearest


def _ink_table() -> np.ndarray:
    """Ink by squared distance, uint8 [pens, 24**2 + 1]: full inside the pen, fading out over a pixel."""
    sixteenths = np.array([isqrt(256 * square) for square in range(_FAR**2 + 1)])
    rim = np.array(_PENS)[:, None] * 16 + 64 - sixteenths
    return np.clip(rim * 255 // 128, 0, 255).astype(np.uint8)
