"""Linear layers that learn inside an episode by one step of gradient descent a label, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import one_hot

Rows = Literal["zero", "learned", "random"]
Weights = list[tuple[Tensor, Tensor]]
"""Weight [B, out, in] and bias [B, out] of each layer."""


@dataclass(frozen=True)
class Trace:
    """How weights moved: a step takes rate x outer(slope, input) from each layer's weight, rate x slope from its bias.

    `weights` are those before the first step; `inputs` [B, S, in] and `slopes` [B, S, out] are one a layer.
    """

    weights: Weights
    inputs: list[Tensor]
    slopes: list[Tensor]


class PlasticLayers(nn.Module):
    """Linear layers with ReLU in between, whose weights W_l, b_l are each episode's own and learn a label at a time.

    For features h_0 with label y: a_l = W_l h_(l-1) + b_l, h_l = max(a_l, 0), softmax over the last a_L. The slopes
    of the cross-entropy are s_L = softmax(a_L) - onehot(y) and s_l = [a_l > 0] W_(l+1)^T s_(l+1), and then

        W_l <- W_l - rate_l s_l h_(l-1)^T,    b_l <- b_l - rate_l s_l.

    Slopes are ordinary expressions, so autograd differentiates through any number of steps: the exact (second-order)
    derivative. With `first_order` slopes and inputs of past steps count as constants. Null labels (-1) have no slope.

    One step (`learned`) computes the new weights. A whole trajectory (`trace`) never does: after S steps a layer is
    its initial weight less S outer products, so W_l h = W_l(0) h - rate_l sum_s (h . h_s) s_s. With S far below the
    layer's width that is far less to compute and to remember, and the initial weights meet all episodes in one matrix
    product. Both give the same numbers.

    `rows` says how a class's row of the last layer begins an episode: 'zero'; 'learned' (trained, one row a class
    number); 'random' (drawn once, fixed). A row shared by all classes would do nothing: softmax ignores it, and the
    slopes of a label sum to zero. `rate` is fixed, or with `learned_rate` where each layer's own begins.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        ways: int,
        rows: Rows,
        rate: float,
        learned_rate: bool,
        first_order: bool,
    ) -> None:
        super().__init__()
        if rate <= 0:
            raise ValueError(f"rate must be above 0, found {rate}")
        self.ways, self.first_order = ways, first_order
        sizes = [inputs, hidden, ways] if hidden else [inputs, ways]
        layers = [nn.Linear(below, above) for below, above in pairwise(sizes)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        for each in layers[-1].parameters():
            if rows == "zero":
                nn.init.zeros_(each)
            each.requires_grad_(rows == "learned")
        self.layers: Iterable[nn.Linear] = nn.ModuleList(layers)  # type: ignore[assignment]
        # As a logarithm: a rate stays positive, and moves by the same share wherever it stands.
        self.log_rates = nn.Parameter(torch.full((len(sizes) - 1,), math.log(rate)), requires_grad=learned_rate)

    @property
    def rates(self) -> Tensor:
        """The learning rate of each layer."""
        return self.log_rates.exp()

    def start(self, episodes: int) -> Weights:
        """The initial weights of `episodes` episodes, as views."""
        return [(layer.weight.expand(episodes, -1, -1), layer.bias.expand(episodes, -1)) for layer in self.layers]

    def logits(self, weights: Weights, x: Tensor) -> Tensor:
        """Logits [B, N, ways] of features [B, N, D] under each episode's weights."""
        for number, (weight, bias) in enumerate(weights):
            x = _through(weight, bias, x if number == 0 else x.relu())
        return x

    def learned(self, weights: Weights, x: Tensor, target: Tensor) -> Weights:
        """The weights after one step on features [B, D] with labels [B]."""
        with self._differentiable():
            inputs, hidden = [], x.unsqueeze(1)
            for weight, bias in weights:
                inputs.append(hidden)
                before = _through(weight, bias, hidden)
                hidden = before.relu()
            slope = self._slope(before, target.unsqueeze(1))
            slopes = [slope]
            for (weight, _), hidden in zip(weights[:0:-1], inputs[:0:-1], strict=True):
                slope = _back(weight, slope) * (hidden > 0)
                slopes.insert(0, slope)
        return self.after(Trace(weights, inputs, slopes))

    def absorbed(self, weights: Weights, pending: Tensor, x: Tensor, target: Tensor) -> tuple[Weights, Tensor]:
        """Weights and pending features after T steps: features x [B, T, D], labels [B, T] as they are revealed.

        A label belongs to the oldest of the `pending` features [B, d, D] at the time; with d = 0 to those of its step.
        """
        fed = torch.cat([pending, x], 1)
        return self.after(self.trace(weights, fed[:, : x.shape[1]], target)), fed[:, x.shape[1] :]

    def stream(self, weights: Weights, pending: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """Logits [B, T, ways] of the steps of a stream, each answered after the label revealed before it."""
        steps = x.shape[1]
        trace = self.trace(weights, torch.cat([pending, x], 1)[:, :steps], target)
        return self.traced(trace, x, torch.ones(steps, steps, dtype=torch.bool, device=x.device).tril())

    def trace(self, weights: Weights, x: Tensor, target: Tensor) -> Trace:
        """What learning from features [B, S, D] with labels [B, S], one after another, does to the weights."""
        with self._differentiable():
            inputs: list[list[Tensor]] = [[] for _ in weights]
            slopes: list[list[Tensor]] = [[] for _ in weights]
            rates = self.rates.unbind()
            first = _through(*weights[0], x)
            alike = x @ x.transpose(1, 2) + 1  # the 1 stands for the bias
            for step in range(x.shape[1]):
                now = slice(step, step + 1)
                # What each layer has met and how it moved so far, [B, step, ...].
                past = [torch.cat(each, 1) for each in inputs] if step else []
                moved = [torch.cat(each, 1) for each in slopes] if step else []
                hidden, before = x[:, now], first[:, now]
                if step:
                    before = before - rates[0] * (alike[:, now, :step] @ moved[0])
                inputs[0].append(hidden)
                for number, (weight, bias) in enumerate(weights[1:], 1):
                    hidden = before.relu()
                    before = _through(weight, bias, hidden)
                    if step:
                        near = hidden @ past[number].transpose(1, 2) + 1
                        before = before - rates[number] * (near @ moved[number])
                    inputs[number].append(hidden)
                slope = self._slope(before, target[:, now])
                for number in range(len(weights) - 1, 0, -1):
                    slopes[number].append(slope)
                    below = _back(weights[number][0], slope)
                    if step:
                        below = below - rates[number] * ((slope @ moved[number].transpose(1, 2)) @ past[number])
                    slope = below * (inputs[number][-1] > 0)
                slopes[0].append(slope)
            return Trace(weights, [torch.cat(each, 1) for each in inputs], [torch.cat(each, 1) for each in slopes])

    def traced(self, trace: Trace, x: Tensor, learned: Tensor) -> Tensor:
        """Logits [B, T, ways] of features [B, T, D], the t-th after those steps s that `learned` [T, S] marks."""
        marked = learned.to(x.dtype)
        for number, (weight, bias) in enumerate(trace.weights):
            x = x if number == 0 else x.relu()
            alike = (x @ trace.inputs[number].transpose(1, 2) + 1) * marked
            x = _through(weight, bias, x) - self.rates[number] * (alike @ trace.slopes[number])
        return x

    def after(self, trace: Trace) -> Weights:
        """The weights after all steps of a trace."""
        moved = []
        for (weight, bias), rate, x, slope in zip(trace.weights, self.rates, trace.inputs, trace.slopes, strict=True):
            step = rate * slope
            moved.append((torch.baddbmm(weight, step.transpose(1, 2), x, alpha=-1), bias - step.sum(1)))
        return moved

    def _slope(self, logits: Tensor, target: Tensor) -> Tensor:
        """softmax - onehot, [B, N, ways]; zero for null labels."""
        hit = one_hot(target, self.ways).to(logits.dtype)
        return (logits.softmax(-1) - hit) * (target >= 0).unsqueeze(-1)

    def _differentiable(self) -> torch.autograd.grad_mode.set_grad_enabled:
        return torch.set_grad_enabled(torch.is_grad_enabled() and not self.first_order)


def _through(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """W x + b for x [B, N, in]. Weights that are one view for all episodes take one product with all of x.

    Gradients then reach what is viewed, not the single episodes' weights; nothing here asks for the latter.
    """
    if weight.stride(0) == 0:
        return F.linear(x, weight[0], bias[0])
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def _back(weight: Tensor, slope: Tensor) -> Tensor:
    """W^T s for slopes [B, N, out]."""
    return slope @ (weight[0] if weight.stride(0) == 0 else weight)
