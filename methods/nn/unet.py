"""The shape of a U-Net of ten layers: four going down, one at the bottom, four going up, and one that gives the mask
(after Ronneberger, Fischer and Brox, MICCAI 2015; the ten layers of Babu et al. 2021, section 4.4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.nn.maps import max_pool

WIDTHS = (16, 32, 64, 128, 128, 128, 64, 32, 16)
"""Channels of the first nine layers at width 1; the tenth has one. The paper does not print them: our choice."""

LEVELS = (0, 1, 2, 3, 4, 3, 2, 1, 0, 0)
"""How often the image was halved where a layer works."""

Size = tuple[int, int]


def channels(depth: int, width: float) -> tuple[list[int], list[int]]:
    """Input and output channels of the ten layers for images of `depth` channels; `width` scales `WIDTHS`."""
    outputs = [max(1, round(width * each)) for each in WIDTHS] + [1]
    inputs = [depth, *outputs[:-1]]
    for layer in range(5, 9):
        inputs[layer] += outputs[8 - layer]
    return inputs, outputs


def sizes(height: int, width: int) -> list[Size]:
    """The sizes of the ten layers' maps; ValueError for images that vanish in four poolings."""
    if min(height, width) < 16:
        raise ValueError(f"images of {height}x{width} vanish in four 2x2 poolings; use 16x16 or more")
    return [(height >> level, width >> level) for level in LEVELS]


def walk(x: Tensor, sizes: list[Size], layer: Callable[[int, Tensor], Tensor], layers: int = 10) -> Tensor:
    """What the last of `layers` layers gives for images x [N, C, H, W]; `layer(number, maps)` is what one
    of them does, numbered from 0.

    Between them: 2x2 max-pooling down, bilinear upsampling up, and a skip connection by concatenation from each layer
    going down to the one going up at its size.
    """
    maps, skips = x, list[Tensor]()
    for number, size in enumerate(sizes[:layers]):
        if 0 < number < 5:
            maps = max_pool(maps)
        elif 5 <= number < 9:
            maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
            maps = torch.cat([maps, skips.pop()], 1)
        maps = layer(number, maps)
        if number < 4:
            skips.append(maps)
    return maps
