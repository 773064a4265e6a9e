"""The input of a learner with one memory over the whole image: features of a conv net, or pixels."""

from __future__ import annotations

from typing import Literal

from torch import nn

from methods.nn.backbones import Conv4

FeatureKind = Literal["conv", "pixels"]


def encoder(
    image_shape: tuple[int, int, int], features: FeatureKind, channels: int, resolution: int | None
) -> tuple[nn.Module, int]:
    """A module from images [N, C, H, W] to vectors [N, D], and D.

    Images are first average-pooled to `resolution` x `resolution`, if that is given. 'conv' is `Conv4`, whose features
    are never negative and hence batch-normalised, without scale or shift; 'pixels' is the image, flattened. Raises
    ValueError for other names, and for images that are too small for the conv net.
    """
    if features not in ("conv", "pixels"):
        raise ValueError(f"features is 'conv' or 'pixels', not {features!r}")
    depth, height, width = image_shape
    pool: nn.Module = nn.Identity()
    if resolution is not None:
        pool, height, width = nn.AdaptiveAvgPool2d(resolution), resolution, resolution
    if features == "pixels":
        return nn.Sequential(pool, nn.Flatten()), depth * height * width
    conv = Conv4(depth, channels)
    size = conv.features((depth, height, width))
    return nn.Sequential(pool, conv, nn.BatchNorm1d(size, affine=False)), size
