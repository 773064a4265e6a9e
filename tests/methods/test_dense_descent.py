"""Descent with gradients written out against the same steps by automatic differentiation (`inner_loop`)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.method.interface import Task
from methods.maml import MAML
from methods.nn import inner_loop
from methods.nn.functional_nets import Statistics
from methods.nn.inner_loop import Weights
from tests.helpers.stepping import seeded

WAYS, EPISODES, PAIRS = 3, 4, 7
OPTIONS = [
    {"norm": norm, "rate": rate, "first_order": first_order}
    for norm in ("support", "batch", "instance", "layer", "source")
    for rate, first_order in (("constant", False), ("global", True), ("layer", False))
]


def descents(dtype: torch.dtype, **options: Any) -> list[list[Tensor]]:
    """Answers, weights, statistics, running statistics and gradients after descent, written out and by `inner_loop`."""
    found = []
    for written_out in (True, False):
        with seeded(3):
            net = MAML(Task(WAYS, (1, 6, 6), "n_way_k_shot"), net="dense", inner_lr=0.3, inner_steps=3, **options)
            for each in net.parameters():
                each.data += 0.2 * torch.randn_like(each)
            net = net.to(dtype).train()
            images = torch.randn(EPISODES, PAIRS, 1, 6, 6, dtype=dtype)
            labels = torch.randint(-1, WAYS, (EPISODES, PAIRS))
            labels[0] = -1  # an episode without any label learns nothing
            queries = torch.randn(EPISODES, 5, 1, 6, 6, dtype=dtype)
        if written_out:
            state = net.fit(images, labels)
            weights, statistics = net.adapted_weights(state), state["descent"].statistics
            answers = net.answer(state, queries)
        else:
            weights, statistics = stepped(net, images, labels)
            answers = inner_loop.forward(net.learner, weights, queries, statistics)[0]
        results = [answers, *weights.values(), *statistics]
        weighed = [(each * torch.linspace(-1, 1, each.numel(), dtype=dtype).view_as(each)).sum() for each in results]
        gradients = torch.autograd.grad(torch.stack(weighed).sum(), list(net.parameters()), materialize_grads=True)
        found.append([*results, *net.learner.body.running_statistics(), *gradients])
    return found


def stepped(net: MAML, images: Tensor, labels: Tensor) -> tuple[Weights, Statistics]:
    """The steps by automatic differentiation, as scoring takes them."""
    weights = net._start(EPISODES)
    statistics: Statistics = ()
    for step in range(net.steps[0]):
        logits, statistics = inner_loop.forward(net.learner, weights, images, ())
        if step == 0 and statistics:
            net.learner.body.update_running_statistics(statistics)
        weights = net._step(weights, logits, labels)
    return weights, inner_loop.forward(net.learner, weights, images, ())[1]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())))
def test_answers_weights_and_gradients_are_those_of_automatic_differentiation(options: dict[str, Any]) -> None:
    for ours, theirs in zip(*descents(torch.float64, **options), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_in_single_precision_they_differ_by_rounding() -> None:
    for ours, theirs in zip(*descents(torch.float32, norm="support", rate="layer"), strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_an_episode_does_not_depend_on_those_beside_it() -> None:
    with seeded(3):
        net = MAML(Task(WAYS, (1, 6, 6), "n_way_k_shot"), net="dense", inner_lr=0.3, inner_steps=2).double().train()
        images, labels = torch.randn(2, PAIRS, 1, 6, 6).double(), torch.randint(0, WAYS, (2, PAIRS))
    together = net._descend(net._start(2), images, labels)[0]
    alone = net._descend(net._start(1), images[1:], labels[1:])[0]
    for name, each in alone.items():
        torch.testing.assert_close(together[name][1:], each, rtol=1e-12, atol=1e-14)
