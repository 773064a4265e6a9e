"""The convolutional learner arranged for a CPU against the same by vmap (`inner_loop`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.nn import episode_conv, inner_loop
from methods.nn.functional_nets import Learner, Norm, Statistics, build_learner
from tests.helpers.stepping import seeded

WAYS, EPISODES = 3, 4
Forward = Callable[..., tuple[Tensor, Statistics]]


def a_learner(norm: Norm, scaled: bool, shape: tuple[int, int, int], dtype: torch.dtype) -> Learner:
    """One of five channels, with scales of both signs where it has any."""
    learner = build_learner("conv", shape, WAYS, 5, norm, scaled)
    for each in learner.parameters():
        each.data += 0.2 * torch.randn_like(each)
    if scaled:
        for layer in learner.body.norms:
            layer.scale.data[::2] *= -1
    return learner.to(dtype).train()


def adapted(forward: Forward, learner: Learner, support: Tensor, labels: Tensor, queries: Tensor) -> list[Tensor]:
    """Answers after two steps of descent, statistics, and the gradients of both by learner and images."""
    weights = inner_loop.require_grad(inner_loop.per_episode_weights(learner, EPISODES), True)
    support, queries = support.clone().requires_grad_(), queries.clone().requires_grad_()
    statistics: Statistics = ()
    for _ in range(2):
        logits, statistics = forward(learner, weights, support, ())
        weights = inner_loop.sgd_step(weights, inner_loop.loss_by_episode(logits, labels), 0.3, True, True)
    answers, of_queries = forward(learner, weights, queries, statistics)
    results = [answers, *statistics, *of_queries]
    weighed = [(each * torch.linspace(-1, 1, each.numel(), dtype=each.dtype).view_as(each)).sum() for each in results]
    by = [*learner.parameters(), support, queries]
    return [*results, *torch.autograd.grad(torch.stack(weighed).sum(), by)]


def both(norm: Norm, scaled: bool, shape: tuple[int, int, int], dtype: torch.dtype, flat: bool) -> list[list[Tensor]]:
    with seeded(5):
        learner = a_learner(norm, scaled, shape, dtype)
        support, queries = (torch.randn(EPISODES, items, *shape, dtype=dtype) for items in (4, 2))
        if flat:
            # As of characters: most windows lie in a background of one value, so that their maxima are equal.
            support, queries = (support > 1.5).to(dtype), (queries > 1.5).to(dtype)
        labels = torch.randint(-1, WAYS, (EPISODES, 4))
    forwards: list[Any] = [episode_conv.forward, inner_loop.forward]
    return [adapted(each, learner, support, labels, queries) for each in forwards]


@pytest.mark.parametrize("flat", [False, True], ids=["", "flat"])
@pytest.mark.parametrize("shape", [(3, 21, 18), (1, 16, 16)], ids=str)
@pytest.mark.parametrize(("norm", "scaled"), [("support", True), ("batch", True), ("batch", False)])
def test_it_is_the_learner_and_so_are_its_gradients_through_descent(
    norm: Norm, scaled: bool, shape: tuple[int, int, int], flat: bool
) -> None:
    found, expected = both(norm, scaled, shape, torch.float64, flat)
    assert len(found) == len(expected)
    if flat:
        # Which of many equal maxima an image's gradient goes to is decided by their last bits.
        found, expected = found[:-2], expected[:-2]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_single_precision_is_as_good_as_by_vmap() -> None:
    exact = both("batch", False, (3, 42, 42), torch.float64, False)[1]
    errors = []
    for found in both("batch", False, (3, 42, 42), torch.float32, False):
        pairs = zip(found, exact, strict=True)
        errors.append(max(((one - other).norm() / other.norm()).item() for one, other in pairs))
    assert errors[0] < max(2 * errors[1], 1e-4)


@pytest.mark.parametrize("norm", ["support", "batch"])
@pytest.mark.parametrize("given", [False, True], ids=["own statistics", "those of another set"])
def test_without_a_graph_it_computes_the_same_bits(norm: Norm, given: bool) -> None:
    """A shortcut is taken there, which keeps no masks of the maxima."""
    with seeded(5):
        learner = a_learner(norm, True, (1, 16, 16), torch.float32).eval()
        x, other = (torch.randn(EPISODES, 4, 1, 16, 16) for _ in range(2))
    weights = inner_loop.per_episode_weights(learner, EPISODES)
    statistics = episode_conv.forward(learner, weights, other)[1] if given else ()
    with_graph = episode_conv.forward(learner, weights, x, statistics)
    with torch.no_grad():
        without = episode_conv.forward(learner, weights, x, statistics)
    assert with_graph[0].requires_grad
    assert not without[0].requires_grad
    assert torch.equal(with_graph[0], without[0])
    assert all(map(torch.equal, with_graph[1], without[1]))


@pytest.mark.parametrize("case", ["instance", "dense", "autocast", "single images"])
def test_all_else_is_left_to_vmap(case: str) -> None:
    with seeded(5):
        norm: Norm = "instance" if case == "instance" else "batch"
        learner = build_learner("dense" if case == "dense" else "conv", (1, 16, 16), WAYS, 4, norm)
        x = torch.randn(EPISODES, 1 if case == "single images" else 4, 1, 16, 16)
    weights = inner_loop.per_episode_weights(learner, EPISODES)
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        found, expected = (each(learner, weights, x, ())[0] for each in (episode_conv.forward, inner_loop.forward))
    assert torch.equal(found, expected)


def test_of_equal_maxima_the_first_of_a_window_has_the_gradient() -> None:
    x = torch.ones(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    maxima, _, _ = episode_conv._PooledWithMoments.apply(x)
    (gradient,) = torch.autograd.grad(maxima.sum(), x)
    assert gradient.flatten().tolist() == [1, 0, 0, 0, 0, 0]


def test_derivatives_of_the_convolution_of_the_second_order() -> None:
    with seeded(1):
        x, weight = torch.randn(2, 4, 3, 5).double(), torch.randn(6, 2, 3, 3).double()
    inputs = (x.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda *each: episode_conv._Convolution.apply(*each, 2), inputs)


def test_derivatives_of_moments_and_maxima_of_the_second_order() -> None:
    with seeded(1):
        x = torch.randn(2, 3, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(episode_conv._PooledWithMoments.apply, x)
    assert torch.autograd.gradgradcheck(episode_conv._PooledWithMoments.apply, x)
