"""Task augmentation: a training episode as one of other classes, its images seen through an affine map.

All images of an episode are seen through one map, so that nothing in it tells its classes apart, and each of its
classes in a mirror or not. What an episode has in common helps no answer; what is learned from many such episodes is
less bound to the classes that there are (Liu et al., "Task augmentation by rotating for meta-learning", 2020, turn
whole classes by quarters; Ni et al., "Data augmentation for meta-learning", ICML 2021, compare where in an episode to
augment).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.episodes.episode_plan import WARP, EpisodePlan
from harness.util import philox

TURNED, SCALED, SHEARED, MOVED = math.radians(20), 1.2, 0.2, 1 / 28
"""The most that an episode is turned by; that each side is scaled by, up or down; by which rows are displaced, as a
share of their distance from the middle; and that it is moved by, as a share of a side."""

_UNIT = 2.0**-24
"""Maps travel to a device as whole numbers of this unit, beside other whole numbers and without rounding there."""

_PIECE = 2**18
"""Pixels worked on at once on a CPU: their coordinates, two floats each, stay in its cache."""


def drawn_maps(plan: EpisodePlan, key: philox.Key) -> np.ndarray:
    """The map of the image of each step, time first: int64 [T * B, 6] in units of `_UNIT`.

    (a, b, c, d, e, f) take the point (x, y) of an image as it is shown to that of the image as it is stored,
    (a x + b y + c, d x + e y + f), both from -1 to 1 over a side. Random words of an episode decide its map: the angle,
    the scale of x and of y (evenly by their logarithm), the shear, the way in x and in y, and then, one a class,
    whether the class is mirrored.
    """
    ways = plan.classes.shape[1]
    drawn = philox.words(key, plan.episode, WARP, 6 + ways).astype(np.float64) / 2**32  # [B, 6 + ways]
    angle, wide, high, shear, right, down = (2 * drawn[:, :6] - 1).T[..., None]  # [B, 1] each, from -1 to 1
    angle, shear, right, down = TURNED * angle, SHEARED * shear, 2 * MOVED * right, 2 * MOVED * down
    wide, high = SCALED**wide, SCALED**high
    cosine, sine = np.cos(angle), np.sin(angle)
    sign = np.where(drawn[:, 6:] < 0.5, -1.0, 1.0)  # [B, ways]
    rows = (
        cosine * wide * sign,
        cosine * shear - sine * high,
        right,
        sine * wide * sign,
        sine * shear + cosine * high,
        down,
    )
    maps = np.stack([np.broadcast_to(row, sign.shape) for row in rows], axis=-1)  # [B, ways, 6]
    shown = np.take_along_axis(maps, plan.target[:, :, None], axis=1)  # [B, T, 6]
    return np.rint(shown.swapaxes(0, 1).reshape(-1, 6) / _UNIT).astype(np.int64)


def warped(images: Tensor, maps: Tensor) -> Tensor:
    """Images [N, C, H, W], as a new tensor, after their maps int64 [N, 6] (`drawn_maps`).

    A value between pixels is interpolated from the nearest four; outside of an image is what is at its edge.
    """
    count, _, height, width = images.shape
    factors = (maps * _UNIT).to(images.dtype).view(count, 2, 1, 1, 3)
    x = _centres(width, images).view(1, 1, width)
    y = _centres(height, images).view(1, height, 1)
    out = torch.empty_like(images)
    size = max(1, _PIECE // (height * width)) if images.device.type == "cpu" else count
    for first in range(0, count, size):
        part = slice(first, first + size)
        a, b, c, d, e, f = factors[part].flatten(1).T[..., None, None]
        points = torch.stack([a * x + b * y + c, d * x + e * y + f], dim=-1)  # [n, H, W, 2]
        out[part] = F.grid_sample(images[part], points, padding_mode="border", align_corners=False)
    return out


def _centres(pixels: int, like: Tensor) -> Tensor:
    """Where the centres of the pixels of a side are, from -1 to 1."""
    return (2 * torch.arange(pixels, dtype=like.dtype, device=like.device) + 1) / pixels - 1
