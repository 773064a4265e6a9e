"""Learning by gradient inside an episode, against closed forms and a plain loop over episodes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from methods.nn import inner
from tests.helpers.stepping import seeded


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def squared(weights: inner.Weights, x: Tensor, y: Tensor) -> Tensor:
    """Half the summed squared error of each episode's own linear regression, [B]."""
    return 0.5 * ((x @ weights["weight"].transpose(1, 2)).squeeze(-1) - y).square().sum(1)


@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_of_linear_regression_is_its_closed_form(second: bool, steps: int) -> None:
    """w' = w - rate X^T (X w - y), so dw'/dw = I - rate X^T X; in first order it counts as I."""
    episodes, samples, size = 3, 4, 5
    net = nn.Linear(size, 1, bias=False).double()
    rate = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    x, y = random(episodes, samples, size, seed=1), random(episodes, samples, seed=2)
    asked, told = random(episodes, 2, size, seed=3), random(episodes, 2, seed=4)

    weights = inner.own_weights(net, episodes)
    for _ in range(steps):
        weights = inner.descended(weights, squared(weights, x, y), rate, through=True, second=second)
    found = torch.autograd.grad(squared(weights, asked, told).sum(), [net.weight, rate])

    expected, of_rate = torch.zeros(size, dtype=torch.float64), 0.0
    for b in range(episodes):
        w, moves = net.weight.detach()[0], []
        contraction = torch.eye(size, dtype=torch.float64)
        if second:
            contraction = contraction - 0.05 * x[b].T @ x[b]
        for _ in range(steps):
            moves.append(x[b].T @ (x[b] @ w - y[b]))
            w = w - 0.05 * moves[-1]
        slope = asked[b].T @ (asked[b] @ w - told[b])
        torch.testing.assert_close(weights["weight"][b, 0], w)
        expected += torch.linalg.matrix_power(contraction, steps) @ slope
        for step, move in enumerate(moves):
            of_rate -= float(torch.linalg.matrix_power(contraction, steps - 1 - step) @ move @ slope)
    torch.testing.assert_close(found[0][0], expected)
    assert float(found[1]) == pytest.approx(of_rate)


def a_conv_net() -> nn.Module:
    with seeded(2):
        conv = nn.Conv2d(2, 4, 3)
        return nn.Sequential(
            conv, nn.GroupNorm(4, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        ).double()


def some_weights(net: nn.Module, episodes: int) -> inner.Weights:
    """Different weights for every episode."""
    return {
        name: each.detach() + 0.3 * random(episodes, *each.shape, seed=number)
        for number, (name, each) in enumerate(net.named_parameters())
    }


def test_a_conv_net_with_own_weights_answers_and_learns_as_in_a_loop_over_episodes() -> None:
    net = a_conv_net()
    weights = inner.free(some_weights(net, 3))
    x, target = random(3, 5, 2, 6, 6, seed=9), torch.tensor([[0, 1, 2, -1, 1], [2, 2, -1, -1, 0], [-1] * 5])
    logits = inner.answers(net, weights, x)
    rates = {name: torch.tensor(0.1 * (1 + number)).double() for number, name in enumerate(weights)}
    after = inner.descended(weights, inner.loss_by_episode(logits, target), rates, through=False, second=True)
    for b in range(3):
        own = {name: each[b].detach().requires_grad_() for name, each in weights.items()}
        plain = functional_call(net, own, (x[b],))
        torch.testing.assert_close(logits[b], plain)
        known = target[b] >= 0
        if not known.any():
            assert all(torch.equal(after[name][b], own[name]) for name in own)
            continue
        slopes = torch.autograd.grad(F.cross_entropy(plain[known], target[b][known]), list(own.values()))
        for (name, each), slope in zip(own.items(), slopes, strict=True):
            torch.testing.assert_close(after[name][b], each - rates[name] * slope)


def test_the_second_derivative_through_convolutions_is_that_of_a_loop_over_episodes() -> None:
    x, target = random(2, 3, 2, 6, 6, seed=5), torch.tensor([[0, 1, 2], [2, 0, 0]])
    net = a_conv_net()
    weights = inner.own_weights(net, 2)
    loss = inner.loss_by_episode(inner.answers(net, weights, x), target)
    after = inner.descended(weights, loss, 0.2, through=True, second=True)
    found = torch.autograd.grad(inner.answers(net, after, x).square().sum(), list(net.parameters()))
    total: Tensor = torch.zeros(())
    for b in range(2):
        own: dict[str, Tensor] = dict(net.named_parameters())
        inside = F.cross_entropy(functional_call(net, own, (x[b],)), target[b])
        slopes = torch.autograd.grad(inside, list(own.values()), create_graph=True)
        moved = {name: each - 0.2 * slope for (name, each), slope in zip(own.items(), slopes, strict=True)}
        total = total + functional_call(net, moved, (x[b],)).square().sum()
    torch.testing.assert_close(found, torch.autograd.grad(total, list(net.parameters())))


def test_where_nothing_is_trained_weights_are_cut_off_from_how_they_came_about() -> None:
    net = nn.Linear(2, 3).double()
    weights = inner.ready(inner.own_weights(net, 2), through=False)
    assert all(each.is_leaf and each.requires_grad for each in weights.values())
    logits = inner.answers(net, weights, random(2, 1, 2))
    loss = inner.loss_by_episode(logits, torch.tensor([[1], [0]]))
    after = inner.descended(weights, loss, 0.1, through=False, second=True)
    assert all(each.is_leaf and each.requires_grad for each in after.values())


def test_in_training_only_what_is_fixed_is_cut_off() -> None:
    net = nn.Linear(2, 3).double()
    net.bias.requires_grad_(False)
    weights = inner.ready(inner.own_weights(net, 2), through=True)
    assert weights["bias"].is_leaf
    assert weights["bias"].requires_grad
    slope = torch.autograd.grad(weights["weight"].sum(), net.weight)[0]
    torch.testing.assert_close(slope, torch.full_like(slope, 2))


@pytest.mark.parametrize("second", [True, False])
def test_an_answer_that_was_learned_from_can_be_trained_on_as_well(second: bool) -> None:
    net = nn.Linear(2, 3).double()
    weights = inner.own_weights(net, 2)
    logits = inner.answers(net, weights, random(2, 1, 2))
    loss = inner.loss_by_episode(logits, torch.tensor([[1], [0]]))
    inner.descended(weights, loss, 0.1, through=True, second=second)
    slope = torch.autograd.grad(loss.sum(), net.weight)[0]
    assert slope.abs().sum() > 0
