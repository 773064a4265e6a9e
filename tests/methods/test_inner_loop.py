"""Gradient descent inside an episode, against closed forms and a plain loop over episodes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from methods.nn import inner_loop
from tests.helpers.stepping import seeded


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def squared(weights: inner_loop.Weights, x: Tensor, y: Tensor) -> Tensor:
    """Half the summed squared error of each episode's own linear regression, [B]."""
    return 0.5 * ((x @ weights["weight"].transpose(1, 2)).squeeze(-1) - y).square().sum(1)


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_of_linear_regression_is_its_closed_form(second_order: bool, steps: int) -> None:
    """w' = w - rate X^T (X w - y), so dw'/dw = I - rate X^T X; in first order it counts as I."""
    episodes, samples, size = 3, 4, 5
    net = nn.Linear(size, 1, bias=False).double()
    rate = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    x, y = random(episodes, samples, size, seed=1), random(episodes, samples, seed=2)
    query, query_y = random(episodes, 2, size, seed=3), random(episodes, 2, seed=4)

    weights = inner_loop.per_episode_weights(net, episodes)
    for _ in range(steps):
        weights = inner_loop.sgd_step(weights, squared(weights, x, y), rate, training=True, second_order=second_order)
    found = torch.autograd.grad(squared(weights, query, query_y).sum(), [net.weight, rate])

    expected, of_rate = torch.zeros(size, dtype=torch.float64), 0.0
    for b in range(episodes):
        w, moves = net.weight.detach()[0], []
        contraction = torch.eye(size, dtype=torch.float64)
        if second_order:
            contraction = contraction - 0.05 * x[b].T @ x[b]
        for _ in range(steps):
            moves.append(x[b].T @ (x[b] @ w - y[b]))
            w = w - 0.05 * moves[-1]
        gradient = query[b].T @ (query[b] @ w - query_y[b])
        torch.testing.assert_close(weights["weight"][b, 0], w)
        expected += torch.linalg.matrix_power(contraction, steps) @ gradient
        for step, move in enumerate(moves):
            of_rate -= float(torch.linalg.matrix_power(contraction, steps - 1 - step) @ move @ gradient)
    torch.testing.assert_close(found[0][0], expected)
    assert float(found[1]) == pytest.approx(of_rate)


def a_conv_net() -> nn.Module:
    with seeded(2):
        conv = nn.Conv2d(2, 4, 3)
        return nn.Sequential(
            conv, nn.GroupNorm(4, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        ).double()


def some_weights(net: nn.Module, episodes: int) -> inner_loop.Weights:
    """Different weights for every episode."""
    return {
        name: each.detach() + 0.3 * random(episodes, *each.shape, seed=number)
        for number, (name, each) in enumerate(net.named_parameters())
    }


def test_a_conv_net_with_own_weights_answers_and_learns_as_in_a_loop_over_episodes() -> None:
    net = a_conv_net()
    weights = inner_loop.detach(some_weights(net, 3))
    x, target = random(3, 5, 2, 6, 6, seed=9), torch.tensor([[0, 1, 2, -1, 1], [2, 2, -1, -1, 0], [-1] * 5])
    logits = inner_loop.forward(net, weights, x)
    rates = {name: torch.tensor(0.1 * (1 + number)).double() for number, name in enumerate(weights)}
    after = inner_loop.sgd_step(
        weights, inner_loop.loss_by_episode(logits, target), rates, training=False, second_order=True
    )
    for b in range(3):
        own = {name: each[b].detach().requires_grad_() for name, each in weights.items()}
        plain = functional_call(net, own, (x[b],))
        torch.testing.assert_close(logits[b], plain)
        known = target[b] >= 0
        if not known.any():
            assert all(torch.equal(after[name][b], own[name]) for name in own)
            continue
        gradients = torch.autograd.grad(F.cross_entropy(plain[known], target[b][known]), list(own.values()))
        for (name, each), gradient in zip(own.items(), gradients, strict=True):
            torch.testing.assert_close(after[name][b], each - rates[name] * gradient)


def test_the_second_derivative_through_convolutions_is_that_of_a_loop_over_episodes() -> None:
    x, target = random(2, 3, 2, 6, 6, seed=5), torch.tensor([[0, 1, 2], [2, 0, 0]])
    net = a_conv_net()
    weights = inner_loop.per_episode_weights(net, 2)
    loss = inner_loop.loss_by_episode(inner_loop.forward(net, weights, x), target)
    after = inner_loop.sgd_step(weights, loss, 0.2, training=True, second_order=True)
    found = torch.autograd.grad(inner_loop.forward(net, after, x).square().sum(), list(net.parameters()))
    total: Tensor = torch.zeros(())
    for b in range(2):
        own: dict[str, Tensor] = dict(net.named_parameters())
        inside = F.cross_entropy(functional_call(net, own, (x[b],)), target[b])
        gradients = torch.autograd.grad(inside, list(own.values()), create_graph=True)
        moved = {name: each - 0.2 * gradient for (name, each), gradient in zip(own.items(), gradients, strict=True)}
        total = total + functional_call(net, moved, (x[b],)).square().sum()
    torch.testing.assert_close(found, torch.autograd.grad(total, list(net.parameters())))


def test_weights_are_detached_leaves_while_scored() -> None:
    net = nn.Linear(2, 3).double()
    weights = inner_loop.require_grad(inner_loop.per_episode_weights(net, 2), training=False)
    assert all(each.is_leaf and each.requires_grad for each in weights.values())
    logits = inner_loop.forward(net, weights, random(2, 1, 2))
    loss = inner_loop.loss_by_episode(logits, torch.tensor([[1], [0]]))
    after = inner_loop.sgd_step(weights, loss, 0.1, training=False, second_order=True)
    assert all(each.is_leaf and each.requires_grad for each in after.values())


def test_in_training_only_fixed_weights_are_detached() -> None:
    net = nn.Linear(2, 3).double()
    net.bias.requires_grad_(False)
    weights = inner_loop.require_grad(inner_loop.per_episode_weights(net, 2), training=True)
    assert weights["bias"].is_leaf
    assert weights["bias"].requires_grad
    gradient = torch.autograd.grad(weights["weight"].sum(), net.weight)[0]
    torch.testing.assert_close(gradient, torch.full_like(gradient, 2))


@pytest.mark.parametrize("second_order", [True, False])
def test_logits_of_the_inner_loss_can_be_trained_on_as_well(second_order: bool) -> None:
    net = nn.Linear(2, 3).double()
    weights = inner_loop.per_episode_weights(net, 2)
    logits = inner_loop.forward(net, weights, random(2, 1, 2))
    loss = inner_loop.loss_by_episode(logits, torch.tensor([[1], [0]]))
    inner_loop.sgd_step(weights, loss, 0.1, training=True, second_order=second_order)
    gradient = torch.autograd.grad(loss.sum(), net.weight)[0]
    assert gradient.abs().sum() > 0
