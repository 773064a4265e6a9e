"""Adam inside an episode: every episode of a batch has mean squared gradients of its own (Kingma and Ba, ICLR 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.nn.inner_loop import Weights

BETA2, EPSILON = 0.999, 1e-8

SecondMoments = dict[str, Any]
"""'mean': decaying means of squared gradients, [B, ...] by name; 'count': steps that they are of, [B] by part."""


class CarriedMoments(nn.Module):
    """The second moments that episodes start from: those that earlier episodes ended with.

    Each of the `parts` counts its own steps, so that a part may begin anew.
    """

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        buffers = {name: _Zeros(part) for name, part in parts.items()}
        self.parts: Mapping[str, _Zeros] = nn.ModuleDict(buffers)  # type: ignore[assignment]

    def start(self, episodes: int) -> SecondMoments:
        """The same for each of `episodes` episodes, as views."""
        mean, count = {}, {}
        for part, own in self.parts.items():
            count[part] = own.count.expand(episodes)
            for name, key in own.keys.items():
                each: Tensor = getattr(own, key)
                mean[f"{part}.{name}"] = each.expand(episodes, *each.shape)
        return {"mean": mean, "count": count}

    def update(self, moments: SecondMoments) -> None:
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


def step(
    weights: Weights, gradients: Weights, moments: SecondMoments, rate: float, known: Tensor
) -> tuple[Weights, SecondMoments]:
    """Weights and moments after one step of Adam without momentum (beta1 = 0), in the episodes that are `known` [B].

        v <- 0.999 v + 0.001 g^2,    n <- n + 1,    w <- w - rate g / (sqrt(v / (1 - 0.999^n)) + 1e-8).

    In the other episodes everything stays as it was.
    """
    count = {part: each + known for part, each in moments["count"].items()}
    after, mean = {}, {}
    for name, weight in weights.items():
        shape = (-1, *(1,) * (weight.dim() - 1))
        gradient, before = gradients[name], moments["mean"][name]
        mean[name] = torch.where(known.view(shape), BETA2 * before + (1 - BETA2) * gradient.square(), before)
        steps = count[name.partition(".")[0]].clamp(min=1).view(shape)
        correction = -torch.expm1(steps * math.log(BETA2))
        after[name] = weight - rate * known.view(shape) * gradient / ((mean[name] / correction).sqrt() + EPSILON)
    return after, {"mean": mean, "count": count}
