"""Learning by gradient inside an episode: every episode of a batch has weights of its own, all updated at once.

Weights are tensors [B, ...], so that they can be a method's state. Episodes do not meet in any loss, hence the
gradient of the sum of their losses is, for each, its own gradient: one backward pass serves the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

Weights = dict[str, Tensor]
"""A module's parameters by name, each with a leading dimension B."""


def own_weights(module: nn.Module, episodes: int) -> Weights:
    """The module's parameters for each of `episodes` episodes, [B, ...]: views, since nothing is changed in place."""
    return {name: each.expand(episodes, *each.shape) for name, each in module.named_parameters()}


def answers(module: nn.Module, weights: Mapping[str, Tensor], x: Tensor, *more: Any) -> Any:
    """What the module gives for x [B, N, ...] with each episode's own weights: [B, N, ...].

    `more` are further arguments, pytrees of tensors with leading B; what it gives may be such a pytree too. The module
    must not keep statistics or draw random numbers while it runs.
    """

    def one(own: dict[str, Tensor], *inputs: Any) -> Any:
        return functional_call(module, own, inputs)

    return vmap(one)(dict(weights), x, *more)


def loss_by_episode(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of each episode, [B], from logits [B, N, ways] and targets [B, N]; null (-1) has no say.

    An episode without any label has the loss 0, and so a gradient of 0.
    """
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="none")
    known = (target >= 0).sum(1).clamp(min=1)
    return each.view_as(target).sum(1) / known


def gradients(weights: Mapping[str, Tensor], loss: Tensor, through: bool, keep: bool = False) -> Weights:
    """Gradients [B, ...] of each episode's loss [B] with respect to its own weights; zeros where it has no say.

    `through` makes the gradients themselves differentiable (second order). `keep` lets the graph of the loss be
    gone through once more, as when what it was computed from is also an answer that training looks at.
    """
    found = torch.autograd.grad(
        loss.sum(), list(weights.values()), create_graph=through, retain_graph=through or keep, materialize_grads=True
    )
    return dict(zip(weights, found, strict=True))


def free(weights: Mapping[str, Tensor]) -> Weights:
    """The same weights cut off from how they came about, ready for a gradient: where nothing is trained."""
    return {name: each.detach().requires_grad_() for name, each in weights.items()}


def ready(weights: Mapping[str, Tensor], through: bool) -> Weights:
    """The same weights, each ready for a gradient: freed where nothing is trained (`through` false).

    In training only those are freed that nothing is to be trained through, such as fixed initial rows.
    """
    fixed = {name: each for name, each in weights.items() if not (through and each.requires_grad)}
    return {**weights, **free(fixed)}


def descended(
    weights: Mapping[str, Tensor],
    loss: Tensor,
    rate: Tensor | float | Mapping[str, Tensor],
    through: bool,
    second: bool,
) -> Weights:
    """The weights after one step of gradient descent on each episode's loss [B].

    `rate` is one number for all or one tensor a name (that broadcasts against [B, ...]). `through` is true in
    training: the result then depends on the weights before (and on the rate); with `second` also through the
    gradient itself, which is the exact derivative of learning.
    """
    slopes = gradients(weights, loss, through and second, keep=through)
    after = {}
    for name, each in weights.items():
        step = rate[name] if isinstance(rate, Mapping) else rate
        after[name] = each - step * slopes[name]
    return after if through else free(after)
