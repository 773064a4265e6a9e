"""What is done to images before they are normalised: they are turned, cropped and mirrored, each in its own way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MOVES = ("flip", "crop")
"""What may be done to each image by itself in training."""

_PADDING = 4


def drawn_changes(rotations: np.ndarray, words: np.ndarray | None, augment: Sequence[str]) -> np.ndarray | None:
    """Changes int64 [N, 4] of N images, or None where there are none.

    In this order: each image is turned counter-clockwise by so many quarters (column 0, `rotations`), replaced by a
    window of its size that is moved over it by so many rows and columns (2 and 3), zero outside of it, and mirrored
    (1). `words` is one random 32-bit word an image: its lowest bit decides the flip, its second and third byte the
    crop from a frame of `_PADDING` pixels, so that turning one on does not move the other.
    """
    if words is None and not rotations.any():
        return None
    changes = np.zeros((len(rotations), 4), np.int64)
    changes[:, 0] = rotations
    if words is not None:
        words, span = words.astype(np.int64), 2 * _PADDING + 1
        if "flip" in augment:
            changes[:, 1] = words & 1
        if "crop" in augment:
            changes[:, 2] = (((words >> 8) & 0xFF) * span >> 8) - _PADDING
            changes[:, 3] = (((words >> 16) & 0xFF) * span >> 8) - _PADDING
    return changes


def changed(pixels: Tensor, changes: Tensor) -> Tensor:
    """Images uint8 [N, C, H, W] after their changes int64 [N, 4] (`drawn_changes`); quarters only of square ones."""
    height, width = pixels.shape[-2:]
    turns, mirrored, down, right = changes.unbind(1)
    # Where a turned image begins, and how far apart its rows and columns are, for 0, 1, 2 and 3 quarters:
    # 0, w-1, hw-1, (h-1)w; w, -1, -w, 1; 1, w, -1, -w.
    cosine, sine = (1 - turns) * (turns % 2 == 0), (2 - turns) * (turns % 2)
    begin = (height - 1) * width * (turns >= 2) + (width - 1) * ((turns == 1) | (turns == 2))
    by_row, by_column = width * cosine - sine, cosine + width * sine
    y = torch.arange(height, device=pixels.device) + down[:, None]
    x = torch.arange(width, device=pixels.device)
    x = torch.where(mirrored[:, None] == 1, width - 1 - x, x) + right[:, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    at = (begin[:, None] + y * by_row[:, None])[:, :, None] + (x * by_column[:, None])[:, None, :]
    at = at.clamp_(0, height * width - 1).flatten(1)[:, None].expand(-1, pixels.shape[1], -1)
    return pixels.flatten(2).gather(2, at).unflatten(2, (height, width)) * inside[:, None]
