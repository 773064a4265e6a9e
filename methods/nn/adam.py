"""Adam inside an episode: every episode of a batch has mean squared gradients of its own (Kingma and Ba, ICLR 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.nn.inner import Weights

DECAY, FLOOR = 0.999, 1e-8

Squares = dict[str, Any]
"""'mean': decaying means of squared gradients, [B, ...] by name; 'count': steps that they are of, [B] by part."""


class Carried(nn.Module):
    """Where the mean squares of the gradients of a learner's parts begin: where those of earlier episodes were left.

    Each of the `parts` counts its own steps, so that a part may begin anew.
    """

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        held = {name: _Zeros(part) for name, part in parts.items()}
        self.parts: Mapping[str, _Zeros] = nn.ModuleDict(held)  # type: ignore[assignment]

    def begun(self, episodes: int) -> Squares:
        """The same for each of `episodes` episodes, as views."""
        mean, count = {}, {}
        for part, held in self.parts.items():
            count[part] = held.count.expand(episodes)
            for name, key in held.keys.items():
                each: Tensor = getattr(held, key)
                mean[f"{part}.{name}"] = each.expand(episodes, *each.shape)
        return {"mean": mean, "count": count}

    def collect(self, squares: Squares) -> None:
        """Goes on, from now, from the mean over the episodes that `squares` are of."""
        for part, held in self.parts.items():
            held.count.copy_(squares["count"][part].mean())
            for name, key in held.keys.items():
                getattr(held, key).copy_(squares["mean"][f"{part}.{name}"].mean(0))


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


def moved(weights: Weights, slopes: Weights, squares: Squares, rate: float, known: Tensor) -> tuple[Weights, Squares]:
    """Weights and squares after one step of Adam without momentum (beta1 = 0), in the episodes that are `known` [B].

        v <- 0.999 v + 0.001 g^2,    n <- n + 1,    w <- w - rate g / (sqrt(v / (1 - 0.999^n)) + 1e-8).

    Where nothing is known everything stays as it was.
    """
    count = {part: each + known for part, each in squares["count"].items()}
    after, mean = {}, {}
    for name, weight in weights.items():
        shape = (-1, *(1,) * (weight.dim() - 1))
        slope, before = slopes[name], squares["mean"][name]
        mean[name] = torch.where(known.view(shape), DECAY * before + (1 - DECAY) * slope.square(), before)
        steps = count[name.partition(".")[0]].clamp(min=1).view(shape)
        share = -torch.expm1(steps * math.log(DECAY))
        after[name] = weight - rate * known.view(shape) * slope / ((mean[name] / share).sqrt() + FLOOR)
    return after, {"mean": mean, "count": count}
