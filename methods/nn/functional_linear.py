"""Linear layers with per-episode weights that take one step of gradient descent a label, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from harness.method.interface import one_hot
from methods.nn import adam
from methods.nn.adam import Moments
from methods.nn.affine import apply_transposed, apply_weight

Rows = Literal["zero", "learned", "random"]
Weights = list[tuple[Tensor, Tensor]]
"""Weight [B, out, in] and bias [B, out] of each layer."""


@dataclass(frozen=True)
class Trajectory:
    """S steps of gradient descent, unapplied: each takes rate x outer(gradient, input) from a layer's weight and rate x
    gradient from its bias.

    `weights` are those before the first step; `inputs` [B, S, in] and `gradients` [B, S, out] with respect to the
    pre-activations are one tensor a layer.
    """

    weights: Weights
    inputs: list[Tensor]
    gradients: list[Tensor]


class FunctionalLinear(nn.Module):
    """Linear layers with ReLU in between, whose weights W_l, b_l are each episode's own and learn a label at a time.

    For features h_0 with label y: a_l = W_l h_(l-1) + b_l, h_l = max(a_l, 0), softmax over the last a_L. The gradients
    of the cross-entropy by a_l are g_L = softmax(a_L) - onehot(y) and g_l = [a_l > 0] W_(l+1)^T g_(l+1), and then

        W_l <- W_l - rate_l g_l h_(l-1)^T,    b_l <- b_l - rate_l g_l.

    Gradients are ordinary expressions, so autograd differentiates through any number of steps: the exact (second-order)
    derivative. With `first_order` gradients and inputs of past steps count as constants. A null label (-1) has the
    gradient 0.

    `sgd_step` computes the new weights. A `trajectory` does not: after S steps a layer is its initial weight less S
    outer products, so W_l h = W_l(0) h - rate_l sum_s (h . h_s) g_s. With S far below the layer's width that takes far
    less time and memory, and the initial weights are applied to all episodes in one matrix product. Both give the same
    numbers.

    `rows` says how a class's row of the last layer begins an episode: 'zero'; 'learned' (trained, one row a class
    number); 'random' (drawn once, fixed). A row shared by all classes would do nothing: softmax ignores it, and the
    gradients of a label sum to zero. `rate` is fixed, or with `learned_rate` where each layer's own begins. Raises
    ValueError for a rate that is not above 0.
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
        self.first_order = first_order
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
            x = apply_weight(weight, x if number == 0 else x.relu(), bias)
        return x

    def sgd_step(self, weights: Weights, x: Tensor, target: Tensor) -> Weights:
        """The weights after one step on features [B, D] with labels [B]."""
        return self.weights_after(self._one_step(weights, x, target))

    def moments(self, weights: Weights) -> Moments:
        """Those of `adam_step` before any step."""
        return adam.with_momentum(_named(weights))

    def adam_step(
        self, weights: Weights, moments: Moments, x: Tensor, target: Tensor, rate: float
    ) -> tuple[Weights, Moments]:
        """Weights and moments after a step of Adam on features [B, D] with labels [B]; null labels change nothing."""
        step = self._one_step(weights, x, target)
        gradients = [
            (gradient.transpose(1, 2) @ hidden, gradient.sum(1))
            for gradient, hidden in zip(step.gradients, step.inputs, strict=True)
        ]
        after, moments = adam.step(_named(weights), _named(gradients), moments, rate, target >= 0)
        found = list(after.values())
        return list(zip(found[::2], found[1::2], strict=True)), moments

    def _one_step(self, weights: Weights, x: Tensor, target: Tensor) -> Trajectory:
        with self._differentiable():
            inputs, hidden = [], x.unsqueeze(1)
            for weight, bias in weights:
                inputs.append(hidden)
                before = apply_weight(weight, hidden, bias)
                hidden = before.relu()
            gradient = self._gradient(before, target.unsqueeze(1))
            gradients = [gradient]
            for (weight, _), hidden in zip(weights[:0:-1], inputs[:0:-1], strict=True):
                gradient = apply_transposed(weight, gradient) * (hidden > 0)
                gradients.insert(0, gradient)
        return Trajectory(weights, inputs, gradients)

    def sgd_steps(self, weights: Weights, x: Tensor, target: Tensor) -> Weights:
        """The weights after a step on each of the features x [B, S, D] with labels [B, S], one after another."""
        return self.weights_after(self.trajectory(weights, x, target))

    def stream_logits(self, weights: Weights, labelled: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """Logits [B, T, ways] of the features x [B, T, D] of a stream.

        Each is answered after a step on the features `labelled` [B, T, D] of the label [B, T] revealed before it.
        """
        steps = x.shape[1]
        earlier = torch.ones(steps, steps, dtype=torch.bool, device=x.device).tril()
        return self.logits_after(self.trajectory(weights, labelled, target), x, earlier)

    def trajectory(self, weights: Weights, x: Tensor, target: Tensor) -> Trajectory:
        """The steps that features [B, S, D] with labels [B, S], one after another, come to."""
        with self._differentiable():
            # Each layer's inputs and gradients of the steps so far, [B, step, ...]. They grow by one step at a time:
            # joined anew from single steps, each of these would get a gradient from every later step by itself.
            inputs, gradients = [x.view_as(x)], list[Tensor]()  # a view: a constant where gradients are off
            rates = self.rates.unbind()
            first = apply_weight(weights[0][0], x, weights[0][1])
            products = x @ x.transpose(1, 2) + 1  # the 1 stands for the bias
            for step in range(x.shape[1]):
                now = slice(step, step + 1)
                before = first[:, now]
                if step:
                    before = before - rates[0] * (products[:, now, :step] @ gradients[0])
                own = [x[:, now]]
                for number, (weight, bias) in enumerate(weights[1:], 1):
                    own.append(before.relu())
                    before = apply_weight(weight, own[number], bias)
                    if step:
                        product = own[number] @ inputs[number].transpose(1, 2) + 1
                        before = before - rates[number] * (product @ gradients[number])
                found = [self._gradient(before, target[:, now])]
                for number in range(len(weights) - 1, 0, -1):
                    below = apply_transposed(weights[number][0], found[0])
                    if step:
                        moved = (found[0] @ gradients[number].transpose(1, 2)) @ inputs[number]
                        below = below - rates[number] * moved
                    found.insert(0, below * (own[number] > 0))
                inputs = [inputs[0], *_joined(inputs[1:], own[1:])]
                gradients = _joined(gradients, found)
            return Trajectory(weights, inputs, gradients)

    def logits_after(self, trajectory: Trajectory, x: Tensor, taken: Tensor) -> Tensor:
        """Logits [B, T, ways] of features [B, T, D], the t-th after those steps s that `taken` (bool [T, S]) marks."""
        mask = taken.to(x.dtype)
        for number, (weight, bias) in enumerate(trajectory.weights):
            x = x if number == 0 else x.relu()
            products = (x @ trajectory.inputs[number].transpose(1, 2) + 1) * mask
            x = apply_weight(weight, x, bias) - self.rates[number] * (products @ trajectory.gradients[number])
        return x

    def weights_after(self, trajectory: Trajectory) -> Weights:
        """The weights after all steps of a trajectory."""
        after = []
        layers = zip(trajectory.weights, self.rates, trajectory.inputs, trajectory.gradients, strict=True)
        for (weight, bias), rate, x, gradient in layers:
            step = rate * gradient
            after.append((torch.baddbmm(weight, step.transpose(1, 2), x, alpha=-1), bias - step.sum(1)))
        return after

    def _gradient(self, logits: Tensor, target: Tensor) -> Tensor:
        """softmax - onehot, [B, N, ways]; zero for null labels."""
        hit = one_hot(target, logits.shape[-1]).to(logits.dtype)
        return (logits.softmax(-1) - hit) * (target >= 0).unsqueeze(-1)

    def _differentiable(self) -> torch.autograd.grad_mode.set_grad_enabled:
        return torch.set_grad_enabled(torch.is_grad_enabled() and not self.first_order)


def _joined(past: list[Tensor], now: list[Tensor]) -> list[Tensor]:
    """Each layer's [B, S, ...] of the past steps and [B, 1, ...] of this one as one; `past` is empty before any."""
    return [torch.cat(pair, 1) for pair in zip(past, now, strict=True)] if past else now


def _named(layers: Weights) -> dict[str, Tensor]:
    """Weights and biases by name, as `adam` has them; they take their steps together, and so are one part."""
    return {f"layers.{n}.{m}": each for n, layer in enumerate(layers) for m, each in enumerate(layer)}
