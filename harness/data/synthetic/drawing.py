"""Painting in whole numbers: what the generators of coloured stand-ins share.

There is no floating point, so that the pixels are the same on every machine. Fixed-point numbers have 1 = 1024.
"""

from __future__ import annotations

import numpy as np

from harness.util import philox

ONE = 1024


class Draws:
    """Random whole numbers for a batch of B images, handed out one after another, int64 [B, 1, 1]."""

    def __init__(self, words: np.ndarray) -> None:
        self._columns = iter(words.T)

    def between(self, low: int, high: int) -> np.ndarray:
        return philox.below(next(self._columns), high - low + 1)[:, None, None] + low


def turned(x: np.ndarray, y: np.ndarray, half: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Points turned by the angle whose half has the tangent half / 1024 (so that the turn keeps lengths)."""
    square = half * half
    cosine = (ONE**2 - square) * ONE // (ONE**2 + square)
    sine = 2 * half * ONE * ONE // (ONE**2 + square)
    return (cosine * x + sine * y) // ONE, (cosine * y - sine * x) // ONE


def wave(phase: np.ndarray) -> np.ndarray:
    """A smooth wave, -256..256, of period 1024: parabolas, in place of a sine."""
    place = phase % 1024
    half = place % 512
    arch = half * (512 - half) // 256
    return np.where(place < 512, arch, -arch)


def lit(canvas: np.ndarray, draws: Draws, noise: np.ndarray) -> np.ndarray:
    """The canvas [B, 3, S, S] under uneven light of some strength and colour, with grain: uint8 of the same shape.

    `noise` holds random 32-bit words, [B, 3 * S * S / 4].
    """
    across, down, strength = draws.between(-7, 7), draws.between(-7, 7), draws.between(800, 1180)
    tint = np.stack([draws.between(930, 1100) for _ in range(3)], axis=1)
    side = canvas.shape[-1]
    place = np.arange(side) - side // 2
    light = (strength + across * place[None, None, :] + down * place[None, :, None])[:, None]
    # Each word gives four bytes of noise.
    parts = np.stack([(noise >> np.uint64(8 * i)) & np.uint64(0xFF) for i in range(4)], axis=-1)
    grain = parts.astype(np.int64).reshape(canvas.shape) * draws.between(4, 28)[:, None] // 256
    return np.clip(canvas * light // ONE * tint // ONE + grain - 8, 0, 255).astype(np.uint8)
