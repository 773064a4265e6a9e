"""The four-layer convolutional learner under each episode's own weights, arranged for a CPU.

What `inner_loop.forward` computes by vmap of a `Learner` over `FunctionalConv4`, for support sets and queries in half
to two thirds of the time, through the backward of the backward and in scoring:

- Episodes are groups of channels of one map [N, B * C, H, W] in channels-last memory, the layout in which grouped
  convolutions are fastest on a CPU (fifteen times on images of three channels).
- A convolution is linear in its input and in its weight, so that three operations make up all its derivatives: itself
  and its two adjoints. PyTorch's own second derivative takes whole maps for kernels.
- Maxima are taken before the normalisation, with which they commute, and which then has a quarter of the values. Where
  its scale is negative, the sign goes into the weight of the convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from methods.nn import inner_loop
from methods.nn.functional_nets import FunctionalConv4, Learner, Statistics

_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column of the places of a 2x2 window, in the order in which the first of equal maxima is taken."""


def forward(
    learner: Learner, weights: Mapping[str, Tensor], x: Tensor, statistics: Statistics = ()
) -> tuple[Tensor, Statistics]:
    """Logits [B, N, ways] of images x [B, N, C, H, W] and the body's statistics, [B, 2, C] a layer.

    `statistics` are what to normalise by, if the norm is 'support'. Other learners, norms and devices, autocast and
    single images (those of streams, on which it would be slower) are left to `inner_loop.forward`.
    """
    norm = next(iter(learner.body.norms)).norm
    fast = isinstance(learner.body, FunctionalConv4) and norm in ("support", "batch")
    if not fast or x.shape[1] == 1 or not _pays(x.device.type):
        found: tuple[Tensor, Statistics] = inner_loop.forward(learner, weights, x, statistics)
        return found
    episodes = len(x)
    maps = x.transpose(0, 1).flatten(1, 2)
    used = []
    for number in range(len(learner.body.maps)):
        weight, shift = weights[f"body.maps.{number}.weight"], weights[f"body.norms.{number}.shift"]
        scale = weights.get(f"body.norms.{number}.scale")
        sign = None if scale is None else torch.where(scale < 0, -1.0, 1.0).to(scale.dtype)
        if sign is not None:
            weight = weight * sign.view(*sign.shape, 1, 1, 1)
        maps = maps.contiguous(memory_format=torch.channels_last)
        pooled = _PooledWithMoments.apply if torch.is_grad_enabled() else _pooled_with_moments
        maps, mean, variance = pooled(_Convolution.apply(maps, weight.flatten(0, 1), episodes))
        mean, variance = mean.view(episodes, -1), variance.view(episodes, -1)
        own = statistics[number] if statistics else torch.stack([mean if sign is None else mean * sign, variance], 1)
        used.append(own)
        gain = (own[:, 1] + 1e-5).rsqrt() * (1 if scale is None else scale)
        maps = maps * _of_maps(gain if sign is None else gain * sign) + _of_maps(shift - own[:, 0] * gain)
        maps = maps.relu()
    features = maps.unflatten(1, (episodes, -1)).transpose(0, 1).flatten(2)
    logits = torch.baddbmm(weights["classify.bias"].unsqueeze(1), features, weights["classify.weight"].mT)
    return logits, tuple(used) if norm == "support" else ()


def _pays(device: str) -> bool:
    """Not on a GPU, where it launches nearly twice as many kernels as vmap; autocast knows nothing of it."""
    return device == "cpu" and not torch.is_autocast_enabled(device)


def _of_maps(x: Tensor) -> Tensor:
    """A number for each channel of each episode, [B, C], as it is applied to maps [N, B * C, H, W]."""
    return x.reshape(-1, 1, 1)


class _Convolution(Function):
    """3x3 convolution of maps [N, B * C, H, W] with weights [B * out, C, 3, 3] in B groups: [N, B * out, H, W]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.groups = groups
        return F.conv2d(x, weight, padding=1, groups=groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, _ = ctx.needs_input_grad
        return (
            _InputAdjoint.apply(g, weight, ctx.groups) if to_x else None,
            _WeightAdjoint.apply(x, g, ctx.groups) if to_weight else None,
            None,
        )


class _InputAdjoint(Function):
    """The gradient of a convolution's input, from that of its output, g, and the weight: linear in both."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(g, weight)
        ctx.groups = groups
        return F.conv_transpose2d(g, weight, padding=1, groups=groups)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:
        g, weight = ctx.saved_tensors
        to_g, to_weight, _ = ctx.needs_input_grad
        return (
            _Convolution.apply(x, weight, ctx.groups) if to_g else None,
            _WeightAdjoint.apply(x, g, ctx.groups) if to_weight else None,
            None,
        )


class _WeightAdjoint(Function):
    """The gradient of a convolution's weight, from its input x and the gradient of its output, g: linear in both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.groups = groups
        return conv2d_weight(x, (g.shape[1], x.shape[1] // groups, 3, 3), g, padding=1, groups=groups)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> tuple[Tensor | None, ...]:
        x, g = ctx.saved_tensors
        to_x, to_g, _ = ctx.needs_input_grad
        return (
            _InputAdjoint.apply(g, weight, ctx.groups) if to_x else None,
            _Convolution.apply(x, weight, ctx.groups) if to_g else None,
            None,
        )


def _pooled_with_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `_PooledWithMoments` gives."""
    share = x.shape[1] / x.numel()
    mean = x.sum((0, 2, 3)) * share
    variance = (x - mean.view(-1, 1, 1)).square_().sum((0, 2, 3)) * share
    windows = _windows(x)
    maxima = torch.maximum(torch.maximum(windows[0], windows[1]), torch.maximum(windows[2], windows[3]))
    return maxima, mean, variance


class _PooledWithMoments(Function):
    """Of maps x [N, K, H, W]: their 2x2 maxima, and each channel's mean and variance [K] over all items and pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maxima, mean, variance = _pooled_with_moments(x)
        masks, free = [], torch.ones_like(maxima, dtype=torch.bool)
        for window in _windows(x):
            first = (window == maxima) & free
            free = free ^ first
            masks.append(first.to(x.dtype))
        ctx.save_for_backward(x, mean, *masks)
        ctx.share = x.shape[1] / x.numel()
        return maxima, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        of_maxima, of_mean, of_variance = gradients
        x, mean, *masks = ctx.saved_tensors
        slope = of_variance * (2 * ctx.share)
        offset = of_mean * ctx.share - mean * slope
        spread: Tensor = torch.addcmul(offset.view(-1, 1, 1), x, slope.view(-1, 1, 1))
        found: Tensor = _AddToMaxima.apply(spread, of_maxima, *masks)
        return found


class _AddToMaxima(Function):
    """Maps [N, K, H, W] with pooled ones added where the masks of the four places of a window are 1: in place."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, pooled: Tensor, *masks: Tensor) -> Tensor:
        ctx.save_for_backward(*masks)
        ctx.mark_dirty(maps)
        for window, mask in zip(_windows(maps), masks, strict=True):
            window.addcmul_(pooled, mask)
        return maps

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        first, *others = [window * mask for window, mask in zip(_windows(g), ctx.saved_tensors, strict=True)]
        for each in others:
            first = first + each
        return g, first, *(None,) * 4


def _windows(x: Tensor) -> list[Tensor]:
    """What each place of all 2x2 windows of maps [N, K, H, W] holds, [N, K, H // 2, W // 2]."""
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    return [x[..., row:height:2, column:width:2] for row, column in _PLACES]
