"""Gradient descent of a fully connected learner on a support set, with the gradients of its loss written out.

What `inner_loop` does with any learner by automatic differentiation, for `FunctionalDense` under its classifier, whose
training it makes faster: no weight matrix has a gradient of its own, which then is scaled, negated and added, each time
over all numbers of the matrix for each episode. A step is one product of gradients g [N, out] and inputs h [N, in] of a
layer that goes straight into its weights W <- W - rate g^T h. The first layer sees the same images x in every step, so
that its output W x changes by rate (x x^T) g, and its weights are formed after the last step alone.

All are ordinary expressions, so that autograd differentiates through any number of steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.method.interface import one_hot
from methods.nn.dense import relu_backward
from methods.nn.functional_nets import Norm, Statistics
from methods.nn.inner_loop import Weights

_FIRST, _LAST = "body.maps.0.weight", "classify"


@dataclass(frozen=True)
class _Hidden:
    """A layer's output [B, N, C] less its mean and over its deviation, the inverse of that, and mean and variance."""

    normalised: Tensor
    inverse: Tensor
    statistics: Tensor


def descend(
    weights: Weights,
    norm: Norm,
    images: Tensor,
    labels: Tensor,
    rate: Tensor | float | Mapping[str, Tensor],
    steps: int,
    second_order: bool,
    fixed: Collection[str] = (),
) -> tuple[Weights, Statistics, Statistics]:
    """The weights [B, ...] of a dense `Learner` after `steps` steps, the statistics of the first and of the last pass.

    Images [B, N, C, H, W] with labels [B, N], null (-1) being masked out; `rate` is one for all or one a name; those
    named in `fixed` stay as they are. The statistics [B, 2, C] a layer are empty where the norm has none. Without
    `second_order` gradients count as constants.
    """
    x, begin = images.flatten(2), weights[_FIRST]
    products = x @ x.mT
    output, moved = _applied(begin, x), None
    first: Statistics = ()
    for number in range(steps):
        with torch.set_grad_enabled(torch.is_grad_enabled() and second_order):
            hidden, inputs = _forward(weights, norm, output)
            logits = _applied(weights["classify.weight"], inputs[-1], weights["classify.bias"])
            gradients, vectors = _backward(weights, norm, hidden, inputs, logits, labels)
        first = first if number else _statistics(hidden)
        after = dict(weights)
        for name, (gradient, below) in gradients.items():
            step, factor = (gradient * rate[name], 1.0) if isinstance(rate, Mapping) else _scaled(gradient, rate)
            if below is None:
                output = torch.baddbmm(output, products, step, alpha=-factor)
                step = step * factor
                moved = step if moved is None else moved + step
            else:
                after[name] = torch.baddbmm(weights[name], step.mT, below, alpha=-factor)
        for name, vector in vectors.items():
            if name not in fixed:
                after[name] = weights[name] - (rate[name] if isinstance(rate, Mapping) else rate) * vector
        weights = after
    assert moved is not None
    weights = {**weights, _FIRST: torch.baddbmm(begin, moved.mT, x, alpha=-1)}
    if norm != "support":
        return weights, (), ()
    last = _forward(weights, norm, output)[0]
    return weights, first, _statistics(last)


def _forward(weights: Weights, norm: Norm, output: Tensor) -> tuple[list[_Hidden], list[Tensor]]:
    """Each normalisation's results and the inputs of the linear maps after it, from the first map's output."""
    hidden: list[_Hidden] = []
    inputs: list[Tensor] = []
    number = 0
    while True:
        hidden.append(_normalised(norm, output))
        x, shift = hidden[-1].normalised, weights[f"body.norms.{number}.shift"].unsqueeze(1)
        scale = weights.get(f"body.norms.{number}.scale")
        x = (x + shift if scale is None else torch.addcmul(shift, x, scale.unsqueeze(1))).relu()
        inputs.append(x)
        number += 1
        weight = weights.get(f"body.maps.{number}.weight")
        if weight is None:
            return hidden, inputs
        output = _applied(weight, x)


def _backward(
    weights: Weights, norm: Norm, hidden: list[_Hidden], inputs: list[Tensor], logits: Tensor, labels: Tensor
) -> tuple[dict[str, tuple[Tensor, Tensor | None]], Weights]:
    """Of each episode's mean loss: for each linear map the gradient of its output beside its input (None of the first
    map), and the gradients of all vectors."""
    known = labels >= 0
    share = known.to(logits.dtype) / known.sum(1, keepdim=True).clamp(min=1)
    hit = one_hot(labels, logits.shape[-1]).to(logits.dtype)
    gradient = (logits.softmax(-1) - hit) * share.unsqueeze(-1)
    found: dict[str, tuple[Tensor, Tensor | None]] = {"classify.weight": (gradient, inputs[-1])}
    vectors: Weights = {"classify.bias": gradient.sum(1)}
    above = weights["classify.weight"]
    for number in reversed(range(len(hidden))):
        gradient = relu_backward(gradient @ (above[0] if above.stride(0) == 0 else above), inputs[number])
        x, inverse = hidden[number].normalised, hidden[number].inverse
        name = f"body.norms.{number}"
        scale = weights.get(f"{name}.scale")
        shift_gradient, scale_gradient = gradient.sum(1), (gradient * x).sum(1)
        vectors[f"{name}.shift"] = shift_gradient
        if scale is not None:
            vectors[f"{name}.scale"] = scale_gradient
            scale = scale.unsqueeze(1)
        if norm in ("support", "batch"):
            # Scales are those of a unit, as means over the items are: the sums above serve for these.
            part = 1 / x.shape[1]
            gradient = torch.addcmul(gradient, x, scale_gradient.unsqueeze(1), value=-part)
            gradient = torch.sub(gradient, shift_gradient.unsqueeze(1), alpha=part)
            gradient = gradient * (inverse if scale is None else inverse * scale)
        else:
            gradient = gradient if scale is None else gradient * scale
            projection = (gradient * x).mean(2, keepdim=True)
            gradient = inverse * (gradient - gradient.mean(2, keepdim=True) - x * projection)
        above = weights[f"body.maps.{number}.weight"]
        found[f"body.maps.{number}.weight"] = gradient, inputs[number - 1] if number else None
    return found, vectors


def _statistics(hidden: list[_Hidden]) -> Statistics:
    return tuple(each.statistics for each in hidden)


def _normalised(norm: Norm, x: Tensor) -> _Hidden:
    over = 1 if norm in ("support", "batch") else 2
    mean = x.mean(over, keepdim=True)
    centred = x - mean
    variance = centred.square().mean(over, keepdim=True)
    inverse = (variance + 1e-5).rsqrt()
    return _Hidden(centred * inverse, inverse, torch.cat([mean, variance], 1))


def _applied(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x + b for x [B, N, in]; weights that are one view for all episodes take one product with all of x."""
    if weight.stride(0) == 0:
        return F.linear(x, weight[0], None if bias is None else bias[0])
    return x @ weight.mT if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def _scaled(gradient: Tensor, rate: Tensor | float) -> tuple[Tensor, float]:
    """A gradient times a rate that is learned, or itself beside the factor that a product can take on the way."""
    return (gradient * rate, 1.0) if isinstance(rate, Tensor) else (gradient, rate)
