"""Nets that are called with per-episode weights: no random numbers, and no state that the forward pass changes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.training.whole_batch import of_whole_batch
from methods.nn.maps import max_pool

NetName = Literal["conv", "dense"]
SourceNet = Literal["conv", "dense", "strided", "strided_mean"]
"""And those that the sources of MAML and Reptile have for Omniglot."""

Norm = Literal["support", "batch", "instance", "layer"]
SourceNorm = Norm | Literal["source"]
"""And what the sources of MAML and of methods made from it have (`methods.maml.MAML`)."""
Statistics = tuple[Tensor, ...]
"""Mean and variance [2, C] by which each normalisation of a net normalised; empty where queries take their own."""


class Normalise(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * scale + shift for x [N, C, H, W] or [N, C], scale and shift [C] learned.

    Mean and variance are taken over what `norm` says: 'batch' all N items and their pixels, for each channel;
    'support' likewise, unless they are given; 'instance' the pixels of one item, for each channel; 'layer' all values
    of one item. Vectors have no pixels, so that 'instance' is 'layer' there. Without `scaled` the scale is 1 and not
    learned. The buffer `usual` [2, C] (its name in saved weights) holds running statistics of support sets, for
    streams, which have none: 0 and 1 at first.
    """

    usual: Tensor
    scale: Tensor

    def __init__(self, channels: int, norm: Norm, scaled: bool = True) -> None:
        super().__init__()
        self.norm: Norm = norm
        if scaled:
            self.scale = nn.Parameter(torch.ones(channels))
        else:
            self.register_buffer("scale", torch.ones(channels), persistent=False)
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("usual", torch.stack([torch.zeros(channels), torch.ones(channels)]))

    def forward(self, x: Tensor, statistics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x normalised, and the mean and variance [2, C] it was normalised by if the norm is 'support'."""
        if statistics is not None or self.norm in ("support", "batch"):
            own = _batch_statistics(x) if statistics is None else statistics
            gain = self.scale * (own[1] + 1e-5).rsqrt()
            shape = (-1, *(1,) * (x.dim() - 2))
            normalised = x * gain.view(shape) + (self.shift - own[0] * gain).view(shape)
            return normalised, None if self.norm == "batch" else own
        groups = len(self.scale) if self.norm == "instance" and x.dim() > 2 else 1
        return F.group_norm(x, groups, self.scale, self.shift), None


def _batch_statistics(x: Tensor) -> Tensor:
    """Mean and variance [2, C] of x [N, C, ...]; two sums are five times faster on a CPU than `torch.var_mean`."""
    over, shape = [0, *range(2, x.dim())], (-1, *(1,) * (x.dim() - 2))
    share = x.shape[1] / x.numel()
    mean = x.sum(over) * share
    return torch.stack([mean, (x + (-mean).view(shape)).square().sum(over) * share])


class Layers(nn.Module):
    """Linear maps (of pixels or of vectors), each followed by normalisation and ReLU."""

    def __init__(self, maps: list[nn.Module], widths: list[int], norm: Norm, scaled: bool = True) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)
        norms = nn.ModuleList(Normalise(width, norm, scaled) for width in widths)
        self.norms: Iterable[Normalise] = norms  # type: ignore

    def forward(self, x: Tensor, statistics: Statistics = ()) -> tuple[Tensor, Statistics]:
        """Features [N, D] of x, and every layer's statistics if the norm is 'support'; `statistics` to normalise by."""
        used = []
        for number, (each, norm) in enumerate(zip(self.maps, self.norms, strict=True)):
            x, own = self.activate(norm, each(x), statistics[number] if statistics else None)
            if own is not None:
                used.append(own)
        return x.flatten(1), tuple(used)

    def activate(self, norm: Normalise, x: Tensor, statistics: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The next layer's input from the output x of a linear map, and the statistics it was normalised by."""
        x, own = norm(x, statistics)
        # Max-pooling and ReLU commute; in this order ReLU has a quarter of the values.
        return self.pool(x).relu(), own

    def pool(self, x: Tensor) -> Tensor:
        """The pooling between layers; none by default."""
        return x

    def running_statistics(self) -> Statistics:
        """The running statistics [2, C] of every layer."""
        return tuple(norm.usual for norm in self.norms)

    def update_running_statistics(self, statistics: Statistics) -> None:
        """Moves them a tenth of the way to the statistics of all images of B support sets, [B, 2, C] a layer."""
        for norm, each in zip(self.norms, statistics, strict=True):
            mean, variance = of_whole_batch(each.detach()).unbind(1)
            total = variance.mean(0) + mean.var(0, correction=0)
            norm.usual.lerp_(torch.stack([mean.mean(0), total]), 0.1)


class FunctionalConv4(Layers):
    """The four-layer net of the few-shot field (`Conv4`): 3x3 convolution, normalisation, ReLU, 2x2 max-pool.

    The convolutions have no bias, which the normalisation would cancel. Raises ValueError for images too small.
    """

    def __init__(self, image_shape: tuple[int, int, int], channels: int, norm: Norm, scaled: bool = True) -> None:
        depth, height, width = image_shape
        if not (height // 16) * (width // 16):
            raise ValueError(f"images of {height}x{width} vanish in four 2x2 poolings; use 16x16 or more")
        inputs = [depth, channels, channels, channels]
        maps: list[nn.Module] = [nn.Conv2d(n, channels, 3, padding=1, bias=False) for n in inputs]
        super().__init__(maps, [channels] * 4, norm, scaled)
        self.dim = channels * (height // 16) * (width // 16)

    def pool(self, x: Tensor) -> Tensor:
        return max_pool(x)


class FunctionalStrided(Layers):
    """Four 3x3 convolutions of stride 2 in place of poolings, each with normalisation and ReLU, as the sources of MAML
    and Reptile have them for Omniglot: 64 channels at 28x28 end in 2x2 places and so 256 features (Reptile), or with
    `mean` in their mean over the places, 64 (MAML).

    Sides are halved and rounded up, by zeros around the map of which the odd one is at its end (padding 'SAME' of
    TensorFlow, which both sources are written in). The convolutions have no bias, which the normalisation would cancel.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], channels: int, norm: Norm, mean: bool, scaled: bool = True
    ) -> None:
        depth, height, width = image_shape
        inputs = [depth, channels, channels, channels]
        maps: list[nn.Module] = [HalvingConv2d(n, channels) for n in inputs]
        super().__init__(maps, [channels] * 4, norm, scaled)
        self.places = None if not mean else -(-height // 16) * -(-width // 16)
        self.dim = channels * (1 if mean else -(-height // 16) * -(-width // 16))

    def forward(self, x: Tensor, statistics: Statistics = ()) -> tuple[Tensor, Statistics]:
        features, used = super().forward(x, statistics)
        return features if self.places is None else features.unflatten(1, (-1, self.places)).mean(2), used


class HalvingConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 2 without bias: [N, C, H, W] to [N, out, ceil(H / 2), ceil(W / 2)].

    Around an even side there is one zero, at its end; around an odd one there is one at either end.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return super().forward(F.pad(x, (width % 2, 1, height % 2, 1)))


class FunctionalDense(Layers):
    """Fully connected layers over the pixels, of 256, 128, 64 and 64 units as MAML has them for Omniglot."""

    def __init__(self, image_shape: tuple[int, int, int], norm: Norm, scaled: bool = True) -> None:
        depth, height, width = image_shape
        sizes = [depth * height * width, 256, 128, 64, 64]
        super().__init__([nn.Linear(m, n, bias=False) for m, n in pairwise(sizes)], sizes[1:], norm, scaled)
        self.dim = sizes[-1]

    def forward(self, x: Tensor, statistics: Statistics = ()) -> tuple[Tensor, Statistics]:
        return super().forward(x.flatten(1), statistics)


class Learner(nn.Module):
    """A body and a linear classifier: logits [N, ways] of x [N, C, H, W], and the body's statistics."""

    def __init__(self, body: FunctionalConv4 | FunctionalDense | FunctionalStrided, ways: int) -> None:
        super().__init__()
        self.body = body
        self.classify = nn.Linear(body.dim, ways)

    def forward(self, x: Tensor, statistics: Statistics = ()) -> tuple[Tensor, Statistics]:
        features, used = self.body(x, statistics)
        return self.classify(features), used


def build_learner(
    net: SourceNet, image_shape: tuple[int, int, int], ways: int, channels: int, norm: Norm, scaled: bool = True
) -> Learner:
    """A learner of images of that shape (C, H, W); `channels` is the width of convolutions.

    Without `scaled` the normalisation has no scale. Raises ValueError for images too small for a net and its norm.
    """
    if net == "conv":
        return Learner(FunctionalConv4(image_shape, channels, norm, scaled), ways)
    if net == "dense":
        return Learner(FunctionalDense(image_shape, norm, scaled), ways)
    if norm == "instance" and max(image_shape[1:]) <= 16:
        raise ValueError(
            f"normalising each image by itself leaves nothing of maps of a single pixel, to which net={net} shrinks "
            f"images of {image_shape[1]}x{image_shape[2]}; use larger images, net=conv, or norm=layer"
        )
    return Learner(FunctionalStrided(image_shape, channels, norm, net == "strided_mean", scaled), ways)


def share_memory(net: nn.Module, other: nn.Module) -> None:
    """Puts the parameters and buffers of `net` over the memory of those of `other`, alike in names and shapes.

    They stay objects of their own: training one trains the other, even one that is frozen.
    """
    own = dict(other.named_buffers()) | dict(other.named_parameters())
    for name, each in (*net.named_buffers(), *net.named_parameters()):
        each.data = own[name].data
