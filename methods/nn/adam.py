"""Adam inside an episode: every episode of a batch has moments of its own (Kingma and Ba, ICLR 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.nn.inner_loop import Weights

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

Moments = dict[str, Any]
"""'mean': decaying means of squared gradients, [B, ...] by name; 'count': steps that they are of, [B] by part; with
momentum also 'first': decaying means of gradients, [B, ...] by name. A part is what a name has before its first dot."""


class CarriedMoments(nn.Module):
    """The second moments that episodes start from: those that earlier episodes ended with.

    Each of the `parts` counts its own steps, so that a part may begin anew.
    """

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        buffers = {name: _Zeros(part) for name, part in parts.items()}
        self.parts: Mapping[str, _Zeros] = nn.ModuleDict(buffers)  # type: ignore[assignment]

    def start(self, episodes: int) -> Moments:
        """The same for each of `episodes` episodes, as views."""
        mean, count = {}, {}
        for part, own in self.parts.items():
            count[part] = own.count.expand(episodes)
            for name, key in own.keys.items():
                each: Tensor = getattr(own, key)
                mean[f"{part}.{name}"] = each.expand(episodes, *each.shape)
        return {"mean": mean, "count": count}

    def update(self, moments: Moments) -> None:
        """Later episodes start from the mean over the episodes that `moments` are of."""
        for part, own in self.parts.items():
            own.count.copy_(moments["count"][part].mean())
            for name, key in own.keys.items():
                getattr(own, key).copy_(moments["mean"][f"{part}.{name}"].mean(0))


class _Zeros(nn.Module):
    """A buffer of zeros for each parameter of a module, and a count."""

    count: Tensor

    def __init__(self, like: nn.Module) -> None:
        super().__init__()
        # Names of buffers have no dots.
        self.keys = {name: "of-" + name.replace(".", "-") for name, _ in like.named_parameters()}
        for name, each in like.named_parameters():
            self.register_buffer(self.keys[name], torch.zeros_like(each))
        self.register_buffer("count", torch.zeros(()))


def with_momentum(weights: Weights) -> Moments:
    """The moments of weights [B, ...] before any step, for steps with momentum (beta1 = 0.9)."""
    zeros = {name: torch.zeros(each.shape, dtype=each.dtype, device=each.device) for name, each in weights.items()}
    count = {name.partition(".")[0]: each.new_zeros(len(each)) for name, each in zeros.items()}
    return {"mean": zeros, "first": dict(zeros), "count": count}


def step(weights: Weights, gradients: Weights, moments: Moments, rate: float, known: Tensor) -> tuple[Weights, Moments]:
    """Weights and moments after one step of Adam in the episodes that are `known` [B]; in the others nothing changes.

        m <- 0.9 m + 0.1 g,    v <- 0.999 v + 0.001 g^2,    n <- n + 1,
        w <- w - rate m / (1 - 0.9^n) / (sqrt(v / (1 - 0.999^n)) + 1e-8).

    Where the moments have no 'first' there is no momentum (beta1 = 0): g stands in the place of m / (1 - 0.9^n).
    """
    count = {part: each + known for part, each in moments["count"].items()}
    after, mean, first = {}, {}, {}
    for name, weight in weights.items():
        shape = (-1, *(1,) * (weight.dim() - 1))
        gradient, before = gradients[name], moments["mean"][name]
        mean[name] = torch.where(known.view(shape), BETA2 * before + (1 - BETA2) * gradient.square(), before)
        steps = count[name.partition(".")[0]].clamp(min=1).view(shape)
        correction = -torch.expm1(steps * math.log(BETA2))
        if "first" in moments:
            before = moments["first"][name]
            first[name] = torch.where(known.view(shape), BETA1 * before + (1 - BETA1) * gradient, before)
            gradient = first[name] / -torch.expm1(steps * math.log(BETA1))
        after[name] = weight - rate * known.view(shape) * gradient / ((mean[name] / correction).sqrt() + EPSILON)
    return after, {"mean": mean, "count": count} | ({"first": first} if first else {})
