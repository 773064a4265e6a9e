"""Nets that learn inside an episode: no running statistics, nothing random, so that each episode may have its own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["support", "batch", "instance", "layer"]
Moments = tuple[Tensor, ...]
"""Mean and variance [2, C] that each normalisation of a net took, or was given; empty where none is handed on."""


class Normalise(nn.Module):
    """(x - mean) / sqrt(variance + 1e-5) * scale + shift for x [N, C, H, W] or [N, C], scale and shift [C] learned.

    Mean and variance are taken over what `norm` says: 'batch' all N items and their places, for each channel;
    'support' likewise, unless they are given; 'instance' the places of one item, for each channel; 'layer' all that
    one item has. Vectors have no places, so that 'instance' is 'layer' there. `usual` [2, C] are the moments of many
    support sets, for whoever has none (0 and 1 until some were collected).
    """

    usual: Tensor

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.norm: Norm = norm
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("usual", torch.stack([torch.zeros(channels), torch.ones(channels)]))

    def forward(self, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x normalised, and the moments [2, C] it was normalised by if the norm is 'support'."""
        if given is not None or self.norm in ("support", "batch"):
            moments = _moments(x) if given is None else given
            gain = self.scale * (moments[1] + 1e-5).rsqrt()
            shape = (-1, *(1,) * (x.dim() - 2))
            answer = x * gain.view(shape) + (self.shift - moments[0] * gain).view(shape)
            return answer, None if self.norm == "batch" else moments
        groups = len(self.scale) if self.norm == "instance" and x.dim() > 2 else 1
        return F.group_norm(x, groups, self.scale, self.shift), None


def _moments(x: Tensor) -> Tensor:
    """Mean and variance [2, C] of x [N, C, ...]; two sums are five times faster on a CPU than `torch.var_mean`."""
    over, shape = [0, *range(2, x.dim())], (-1, *(1,) * (x.dim() - 2))
    share = x.shape[1] / x.numel()
    mean = x.sum(over) * share
    return torch.stack([mean, (x + (-mean).view(shape)).square().sum(over) * share])


def halved(x: Tensor) -> Tensor:
    """2x2 max-pool of maps [..., C, H, W].

    Where no gradient is asked for on a CPU, it is taken as maxima of rows and then of columns: the same values, ten
    times faster there than `F.max_pool2d`, which looks for their places too. Its own gradient would be slower.
    """
    if x.is_cuda or torch.is_grad_enabled():
        return F.max_pool2d(x, 2)
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


class _Layers(nn.Module):
    """Linear maps (of pixels or of vectors), each followed by normalisation and ReLU."""

    def __init__(self, maps: list[nn.Module], widths: list[int], norm: Norm) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)
        self.norms: Iterable[Normalise] = nn.ModuleList(Normalise(width, norm) for width in widths)  # type: ignore

    def forward(self, x: Tensor, given: Moments = ()) -> tuple[Tensor, Moments]:
        """Features [N, D] and the moments of every layer, if they are such as to be handed on."""
        taken = []
        for number, (each, norm) in enumerate(zip(self.maps, self.norms, strict=True)):
            x, moments = self.activated(norm, each(x), given[number] if given else None)
            if moments is not None:
                taken.append(moments)
        return x.flatten(1), tuple(taken)

    def activated(self, norm: Normalise, x: Tensor, given: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the next layer sees of what a linear map gave, and the moments it was normalised by."""
        x, moments = norm(x, given)
        # A maximum and ReLU may change places; this way ReLU has a quarter as many values to see.
        return self.pooled(x).relu(), moments

    def pooled(self, x: Tensor) -> Tensor:
        """The maps of a layer as the next one has them: of the same size, unless a net has max-pooling."""
        return x

    def usual(self) -> Moments:
        """The usual moments of every layer."""
        return tuple(norm.usual for norm in self.norms)

    def collect(self, moments: Moments) -> None:
        """Moves the usual moments a tenth of the way to those of all images of B support sets, [B, 2, C] a layer."""
        for norm, each in zip(self.norms, moments, strict=True):
            mean, variance = each.detach().unbind(1)
            total = variance.mean(0) + mean.var(0, correction=0)
            norm.usual.lerp_(torch.stack([mean.mean(0), total]), 0.1)


class PlasticConv(_Layers):
    """The four-layer net of the few-shot field (`Conv4`): 3x3 convolution, normalisation, ReLU, 2x2 max-pool.

    The convolutions have no bias, which the normalisation would take off again.
    """

    def __init__(self, image_shape: tuple[int, int, int], channels: int, norm: Norm) -> None:
        depth, height, width = image_shape
        if not (height // 16) * (width // 16):
            raise ValueError(f"images of {height}x{width} vanish in four 2x2 poolings; use 16x16 or more")
        inputs = [depth, channels, channels, channels]
        super().__init__([nn.Conv2d(n, channels, 3, padding=1, bias=False) for n in inputs], [channels] * 4, norm)
        self.dim = channels * (height // 16) * (width // 16)

    def pooled(self, x: Tensor) -> Tensor:
        return halved(x)


class PlasticDense(_Layers):
    """Fully connected layers over the pixels, of 256, 128, 64 and 64 units as MAML has them for Omniglot."""

    def __init__(self, image_shape: tuple[int, int, int], norm: Norm) -> None:
        depth, height, width = image_shape
        sizes = [depth * height * width, 256, 128, 64, 64]
        super().__init__([nn.Linear(m, n, bias=False) for m, n in pairwise(sizes)], sizes[1:], norm)
        self.dim = sizes[-1]

    def forward(self, x: Tensor, given: Moments = ()) -> tuple[Tensor, Moments]:
        return super().forward(x.flatten(1), given)


class Learner(nn.Module):
    """A body and a linear classifier: logits [N, ways] of x [N, C, H, W], and the body's moments."""

    def __init__(self, body: PlasticConv | PlasticDense, ways: int) -> None:
        super().__init__()
        self.body = body
        self.classify = nn.Linear(body.dim, ways)

    def forward(self, x: Tensor, given: Moments = ()) -> tuple[Tensor, Moments]:
        features, moments = self.body(x, given)
        return self.classify(features), moments


def share(net: nn.Module, other: nn.Module) -> None:
    """Puts the parameters and buffers of `net` over the memory of those of `other`, alike in names and shapes.

    They stay objects of their own: training one trains the other, even one that is frozen.
    """
    own = dict(other.named_buffers()) | dict(other.named_parameters())
    for name, each in (*net.named_buffers(), *net.named_parameters()):
        each.data = own[name].data
