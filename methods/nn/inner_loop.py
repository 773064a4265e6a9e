"""Gradient descent inside an episode: every episode of a batch has weights of its own, all updated at once.

Weights are tensors [B, ...], so that they can be a method's state. No loss mixes episodes, hence the gradient of the
sum of their losses is, for each episode, its own gradient: one backward pass serves the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

Weights = dict[str, Tensor]
"""A module's parameters by name, each with a leading dimension B."""

Rate = Literal["constant", "global", "layer"]
"""An inner learning rate: fixed, one that is learned, or one learned for each parameter tensor."""


def per_episode_weights(module: nn.Module, episodes: int) -> Weights:
    """The module's parameters for each of `episodes` episodes, [B, ...]: views, since nothing is changed in place."""
    return {name: each.expand(episodes, *each.shape) for name, each in module.named_parameters()}


def forward(module: nn.Module, weights: Mapping[str, Tensor], x: Tensor, *more: Any) -> Any:
    """The module's output for x [B, N, ...] under each episode's own weights: [B, N, ...].

    `more` are further arguments, pytrees of tensors with leading B; the output may be such a pytree too. The module
    must not update running statistics or draw random numbers in its forward pass.
    """

    def one(own: dict[str, Tensor], *inputs: Any) -> Any:
        return functional_call(module, own, inputs)

    return vmap(one)(dict(weights), x, *more)


def loss_by_episode(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of each episode, [B], from logits [B, N, ways] and targets [B, N]; null (-1) is masked out.

    An episode without any label has the loss 0, and so a gradient of 0.
    """
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="none")
    known = (target >= 0).sum(1).clamp(min=1)
    return each.view_as(target).sum(1) / known


def gradients(weights: Mapping[str, Tensor], loss: Tensor, create_graph: bool, retain_graph: bool = False) -> Weights:
    """Gradients [B, ...] of each episode's loss [B] with respect to its own weights; zeros where it does not depend.

    `create_graph` makes the gradients themselves differentiable (second order). `retain_graph` keeps the graph of the
    loss for another backward pass, as when the logits it was computed from are also scored in training.
    """
    found = torch.autograd.grad(
        loss.sum(),
        list(weights.values()),
        create_graph=create_graph,
        retain_graph=create_graph or retain_graph,
        materialize_grads=True,
    )
    return dict(zip(weights, found, strict=True))


def detach(weights: Mapping[str, Tensor]) -> Weights:
    """The same weights as leaves that require a gradient, without the graph they were computed by."""
    return {name: each.detach().requires_grad_() for name, each in weights.items()}


def require_grad(weights: Mapping[str, Tensor], training: bool) -> Weights:
    """The same weights, each requiring a gradient.

    While scored (`training` false) all are detached. In training only those are that no gradient is to pass through,
    such as fixed initial rows.
    """
    fixed = {name: each for name, each in weights.items() if not (training and each.requires_grad)}
    return {**weights, **detach(fixed)}


def sgd_step(
    weights: Mapping[str, Tensor],
    loss: Tensor,
    rate: Tensor | float | Mapping[str, Tensor],
    training: bool,
    second_order: bool,
) -> Weights:
    """The weights after one step of gradient descent on each episode's loss [B].

    `rate` is one number for all or one tensor a name (that broadcasts against [B, ...]). In `training` the result
    depends on the weights before (and on the rate); with `second_order` also through the gradient itself, which is the
    exact derivative of the step. Otherwise it is detached.
    """
    found = gradients(weights, loss, create_graph=training and second_order, retain_graph=training)
    after = {}
    for name, each in weights.items():
        step = rate[name] if isinstance(rate, Mapping) else rate
        after[name] = each - step * found[name]
    return after if training else detach(after)


def rate_factors(module: nn.Module, rate: Rate) -> nn.Parameter | None:
    """The learned factors of an inner learning rate, all 1 at first: none, one, or one a parameter of the module."""
    if rate == "constant":
        return None
    return nn.Parameter(torch.ones((len(list(module.parameters())),) if rate == "layer" else ()))


def scaled_rate(
    rate: float, factors: Tensor | None, weights: Mapping[str, Tensor]
) -> float | Tensor | dict[str, Tensor]:
    """The inner learning rate times its `factors`, by name of the weights where each has its own."""
    if factors is None:
        return rate
    rates = rate * factors
    return dict(zip(weights, rates, strict=True)) if rates.dim() else rates
