"""Gradient descent of a fully connected learner on a support set, with the gradients of its loss written out.

What `inner_loop` does with any learner by automatic differentiation, for `FunctionalDense` under its classifier, whose
training it makes faster: no weight matrix has a gradient of its own, which then is scaled, negated and added, each time
over all numbers of the matrix for each episode. A step is one product of gradients g [N, out] and inputs h [N, in] of a
layer that goes straight into its weights W <- W - rate g^T h. The first layer sees the same images x in every step, so
that its output W x changes by rate (x x^T) g. Its weights after all steps are W - moved^T x, for the sum `moved` of all
rate g, and are not formed: they put out W q - (q x^T) moved for queries q. With far fewer images than pixels that is
far less work, in the backward pass too, and W itself is applied to all episodes in one product.

All are ordinary expressions, so that autograd differentiates through any number of steps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.method.interface import one_hot
from methods.nn.affine import apply_transposed, apply_weight
from methods.nn.dense import relu_backward
from methods.nn.functional_nets import Norm, Statistics
from methods.nn.inner_loop import Weights

_FIRST, _LAST = "body.maps.0.weight", "classify"


class Descent(NamedTuple):
    """What steps on a support set come to.

    `weights` [B, ...] are those after all steps, but the first map's are still where they began: less moved^T x they
    are its own, for the images x [B, N, in] and `moved` [B, N, out]. The statistics [B, 2, C] a layer are those of the
    first pass and of one after the last step, empty where the norm has none.
    """

    weights: Weights
    images: Tensor
    moved: Tensor
    first_statistics: Statistics
    statistics: Statistics

    def all_weights(self) -> Weights:
        """The weights with those of the first map formed."""
        return {**self.weights, _FIRST: torch.baddbmm(self.weights[_FIRST], self.moved.mT, self.images, alpha=-1)}

    def answer(self, norm: Norm, queries: Tensor) -> Tensor:
        """Logits [B, Q, ways] of images [B, Q, C, H, W], normalised by `statistics` where there are any."""
        x = queries.flatten(2)
        output = torch.baddbmm(apply_weight(self.weights[_FIRST], x), x @ self.images.mT, self.moved, alpha=-1)
        inputs = _forward(self.weights, norm, output, self.statistics)[1]
        return apply_weight(self.weights["classify.weight"], inputs[-1], self.weights["classify.bias"])


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
) -> Descent:
    """What `steps` steps from weights [B, ...] of a dense `Learner` come to.

    Images [B, N, C, H, W] with labels [B, N], null (-1) being masked out; `rate` is one for all or one a name; those
    named in `fixed` stay as they are. Without `second_order` gradients count as constants.
    """
    x = images.flatten(2)
    products = x @ x.mT
    output, moved = apply_weight(weights[_FIRST], x), None
    first: Statistics = ()
    for number in range(steps):
        with torch.set_grad_enabled(torch.is_grad_enabled() and second_order):
            hidden, inputs = _forward(weights, norm, output)
            logits = apply_weight(weights["classify.weight"], inputs[-1], weights["classify.bias"])
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
    if norm != "support":
        return Descent(weights, x, moved, (), ())
    return Descent(weights, x, moved, first, _statistics(_forward(weights, norm, output)[0]))


def _forward(
    weights: Weights, norm: Norm, output: Tensor, statistics: Statistics = ()
) -> tuple[list[_Hidden], list[Tensor]]:
    """Each normalisation's results and the inputs of the linear maps after it, from the first map's output.

    `statistics` are to normalise by; without them by its own.
    """
    hidden: list[_Hidden] = []
    inputs: list[Tensor] = []
    number = 0
    while True:
        hidden.append(_normalised(norm, output, statistics[number] if statistics else None))
        x, shift = hidden[-1].normalised, weights[f"body.norms.{number}.shift"].unsqueeze(1)
        scale = weights.get(f"body.norms.{number}.scale")
        x = (x + shift if scale is None else torch.addcmul(shift, x, scale.unsqueeze(1))).relu()
        inputs.append(x)
        number += 1
        weight = weights.get(f"body.maps.{number}.weight")
        if weight is None:
            return hidden, inputs
        output = apply_weight(weight, x)


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
        gradient = relu_backward(apply_transposed(above, gradient), inputs[number])
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


def _normalised(norm: Norm, x: Tensor, statistics: Tensor | None) -> _Hidden:
    if statistics is None:
        over = 1 if norm in ("support", "batch") else 2
        mean = x.mean(over, keepdim=True)
        centred = x - mean
        variance = centred.square().mean(over, keepdim=True)
        statistics = torch.cat([mean, variance], 1)
    else:
        mean, variance = statistics.split(1, 1)
        centred = x - mean
    inverse = (variance + 1e-5).rsqrt()
    return _Hidden(centred * inverse, inverse, statistics)


def _scaled(gradient: Tensor, rate: Tensor | float) -> tuple[Tensor, float]:
    """A gradient times a rate that is learned, or itself beside the factor that a product can take on the way."""
    return (gradient * rate, 1.0) if isinstance(rate, Tensor) else (gradient, rate)
