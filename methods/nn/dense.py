"""Fully connected nets with per-episode weights, and the gradients of their loss written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from harness.method.interface import one_hot
from methods.nn.affine import apply_weight

DenseNorm = Literal["support", "batch", "layer", "none"]
Weights = list[tuple[Tensor, Tensor]]
"""Weight [B, out, in] and bias [B, out] of each layer."""
Statistics = tuple[Tensor, ...]
"""Mean and variance [B, 2, C] of the input of each normalisation over the items; empty where it has none of them."""


@dataclass(frozen=True)
class ForwardPass:
    """The results of one forward pass.

    `logits` [B, N, ways]; `inputs` [B, N, in], those of each layer's weights; `statistics`, those that queries are to
    be normalised by; `normalised`, of each normalisation its output before scale and shift, and its 1 / deviation.
    """

    logits: Tensor
    inputs: list[Tensor]
    statistics: Statistics
    normalised: list[tuple[Tensor, Tensor]]


class DenseLearner(nn.Module):
    """Hidden layers, each with normalisation and ReLU, under a linear layer: logits of vectors.

        a_l = W_l h_(l-1) + b_l,   h_l = max(norm_l(a_l), 0),   logits a_L.

    Weights and biases are each episode's own; scale and shift of the normalisation are shared by all. Mean and variance
    are taken, for each unit, over the N items of a forward pass ('support', where other items can then be normalised by
    these; 'batch'), or for each item over its units ('layer'), or there is no normalisation ('none').

    The gradients g_l = d(sum of the losses of all N items) / d a_l are ordinary expressions, so that autograd
    differentiates through any number of steps that use them.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], ways: int, norm: DenseNorm) -> None:
        super().__init__()
        self.sizes = list(pairwise([inputs, *hidden, ways]))
        self.layers: Sequence[nn.Linear] = nn.ModuleList(nn.Linear(*size) for size in self.sizes)  # type: ignore
        self.norm: DenseNorm = norm
        self._over = 1 if norm in ("support", "batch") else 2
        widths = hidden if norm != "none" else []
        self.scales = nn.ParameterList(torch.ones(width) for width in widths)
        self.shifts = nn.ParameterList(torch.zeros(width) for width in widths)

    def start(self, episodes: int) -> Weights:
        """The initial weights of `episodes` episodes, as views."""
        pairs = [(layer.weight, layer.bias) for layer in self.layers]
        if not torch.is_grad_enabled():  # a view of a parameter says that it requires a gradient even then
            pairs = [(weight.detach(), bias.detach()) for weight, bias in pairs]  # type: ignore[misc]
        return [(weight.expand(episodes, -1, -1), bias.expand(episodes, -1)) for weight, bias in pairs]

    def forward(
        self, weights: Weights, x: Tensor, statistics: Statistics = (), first: Tensor | None = None
    ) -> ForwardPass:
        """The forward pass of vectors [B, N, in].

        `statistics` of another pass to normalise by; `first` [B, N, out], what the first layer puts out, if that is
        known.
        """
        inputs: list[Tensor] = []
        normalised: list[tuple[Tensor, Tensor]] = []
        own: list[Tensor] = []
        for number, (weight, bias) in enumerate(weights):
            if number:
                if self.norm != "none":
                    if statistics:
                        mean, variance = statistics[number - 1].unsqueeze(2).unbind(1)
                    else:
                        mean, variance = self._mean_and_variance(x)
                    if self.norm == "support":
                        own.append(torch.cat([mean, variance], 1))
                    inverse = (variance + 1e-5).rsqrt()
                    x = (x - mean) * inverse
                    normalised.append((x, inverse))
                    x = x * self.scales[number - 1] + self.shifts[number - 1]
                x = x.relu()
            inputs.append(x)
            if first is None or number:
                x = torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
            else:
                x = first
        return ForwardPass(x, inputs, tuple(own), normalised)

    def gradients(self, weights: Weights, passed: ForwardPass, target: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The loss [B, N] of each item, and g_l [B, N, out] for each layer; zeros for items whose target is null.

        That pass must have been normalised by its own statistics.
        """
        known, ways = target >= 0, passed.logits.shape[-1]
        hit = one_hot(target, ways).to(passed.logits.dtype)
        logs = passed.logits.log_softmax(-1)
        gradient = (logs.exp() - hit) * known.unsqueeze(-1)
        found = [gradient]
        for number in range(len(weights) - 1, 0, -1):
            gradient = relu_backward(gradient @ weights[number][0], passed.inputs[number])
            if self.norm != "none":
                over = self._over
                x, inverse = passed.normalised[number - 1]
                gradient = gradient * self.scales[number - 1]
                projection = (gradient * x).mean(over, keepdim=True)
                gradient = inverse * (gradient - gradient.mean(over, keepdim=True) - x * projection)
            found.insert(0, gradient)
        return -(hit * logs).sum(-1), found

    def _mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        over = self._over
        if torch.is_grad_enabled() and not x.is_cuda:  # in training: on a CPU ten times as fast
            mean = x.mean(over, keepdim=True)
            return mean, (x - mean).square().mean(over, keepdim=True)
        variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
        return mean, variance


class UnappliedSteps(NamedTuple):
    """Steps of gradient descent of one layer on the same vectors x [B, N, in], whose weights they have not moved yet.

    Step s would take step_s^T u_s from the weight W and the sum of step_s from the bias b, for `inputs` u_s [B, N, in]
    and `steps` [B, N, out], rates included. Hence the layer puts out W q + b - sum_s (q u_s^T + 1) step_s for other
    vectors q; `output` [B, N, out] is that for x itself. With far fewer vectors than inputs and outputs that is far
    less work than to form the weights, and W is applied to all episodes in one product.
    """

    output: Tensor
    inputs: tuple[Tensor, ...] = ()
    steps: tuple[Tensor, ...] = ()

    def and_one(self, x: Tensor, inputs: Tensor, step: Tensor) -> UnappliedSteps:
        """These and one more, on the same x."""
        output = torch.baddbmm(self.output, x @ inputs.mT + 1, step, alpha=-1)
        return UnappliedSteps(output, (*self.inputs, inputs), (*self.steps, step))

    def apply(self, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        """What the layer puts out for vectors [B, Q, in], given the weights [B, out, in] and [B, out] it began with."""
        output = apply_weight(weight, x, bias)
        for inputs, step in zip(self.inputs, self.steps, strict=True):
            output = torch.baddbmm(output, x @ inputs.mT + 1, step, alpha=-1)
        return output


def relu_backward(gradient: Tensor, after: Tensor) -> Tensor:
    """The gradient of a ReLU's input, given that of what it put out, `after`: one operation, forward and backward."""
    found: Tensor = torch.ops.aten.threshold_backward(gradient, after.detach(), 0)
    return found


def sgd_step(weights: Weights, inputs: list[Tensor], gradients: list[Tensor], rate: float | Tensor) -> Weights:
    """W_l - rate sum_n g_l,n h_(l-1),n^T and b_l - rate sum_n g_l,n, for a rate that broadcasts against [B, 1, 1]."""
    after = []
    for (weight, bias), x, gradient in zip(weights, inputs, gradients, strict=True):
        step = rate * gradient
        after.append((torch.baddbmm(weight, step.mT, x, alpha=-1), bias - step.sum(1)))
    return after
