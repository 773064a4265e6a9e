"""OML against a plain loop over episodes and steps with autograd, and its two nets counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.evaluation.operations import Operations
from harness.method.interface import Feedback, Task, state_bytes
from methods.oml import OML
from tests.helpers.stepping import gradients_of, rolled, seeded, stepped

WAYS, STEPS, EPISODES = 4, 8, 3
SMALL: dict[str, Any] = {"net": "text", "channels": 5, "hidden": 6, "rate": 0.3, "learned_rate": True}
VARIANTS = {
    "one layer": {"hidden": 0},
    "hidden layer": {},
    "hidden layer, learned rows": {"rows": "learned"},
    "hidden layer, random rows, first order": {"rows": "random", "first_order": True},
    "one layer, learned rows, first order": {"hidden": 0, "rows": "learned", "first_order": True},
}


def an_oml(kind: str = "delayed_label", delay: int | None = 1, **options: Any) -> OML:
    """In double precision and training, with normalisation by running statistics so that all paths agree."""
    with seeded(4):
        net = OML(Task(WAYS, (1, 16, 16), kind, delay), **{**SMALL, **options}).double().train()
    net.represent.eval()
    return net


def an_episode(delay: int, nulls: bool = True) -> tuple[Tensor, Tensor]:
    """Images [T, B, 1, 16, 16] and what is revealed before each step [T, B], some labels never."""
    random = torch.Generator().manual_seed(6)
    x = torch.randn(STEPS, EPISODES, 1, 16, 16, dtype=torch.float64, generator=random)
    target = torch.randint(0, WAYS, (STEPS, EPISODES), generator=random)
    if nulls:
        target[2, 0] = target[4, 1] = -1
    return x, torch.cat([torch.full((delay, EPISODES), -1), target[: STEPS - delay]]) if delay else target


def plain(net: OML, pairs: list[tuple[Tensor, int]], queries: Tensor) -> Tensor:
    """Logits [Q, ways] of images [Q, ...] after learning from (image, label) pairs: one episode, by autograd."""
    layers = [(layer.weight, layer.bias) for layer in net.learner.layers]
    weights = [each if each.requires_grad else each.detach().requires_grad_() for pair in layers for each in pair]
    rates = [rate for rate in net.learner.log_rates.exp() for _ in range(2)]

    def answer(features: Tensor) -> Tensor:
        for number in range(0, len(weights), 2):
            features = features.relu() if number else features
            features = features @ weights[number].T + weights[number + 1]
        return features

    for image, label in pairs:
        loss = F.cross_entropy(answer(net.represent(image.unsqueeze(0))), torch.tensor([label]))
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        if net.learner.first_order:
            gradients = tuple(gradient.detach() for gradient in gradients)
        weights = [each - rate * gradient for each, rate, gradient in zip(weights, rates, gradients, strict=True)]
    return answer(net.represent(queries))


def plain_stream(net: OML, x: Tensor, feedback: Tensor, delay: int) -> Tensor:
    """Logits [T, B, ways], every step from an episode run anew."""
    answers = []
    for t in range(STEPS):
        row = []
        for b in range(EPISODES):
            pairs = [(x[s - delay, b], int(feedback[s, b])) for s in range(delay, t + 1) if feedback[s, b] >= 0]
            row.append(plain(net, pairs, x[t, b].unsqueeze(0))[0])
        answers.append(torch.stack(row))
    return torch.stack(answers)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("delay", [1, 3])
def test_streams_and_their_meta_gradient_are_those_of_a_plain_loop(options: dict[str, Any], delay: int) -> None:
    net = an_oml(delay=delay, **options)
    x, feedback = an_episode(delay)
    expected = plain_stream(net, x, feedback, delay)
    wanted = gradients_of(net, expected)
    for logits in (stepped(net, x, feedback)[0], rolled(net, x, feedback)):
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(gradients_of(net, logits), wanted)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_support_pairs_and_their_meta_gradient_are_those_of_a_plain_loop(options: dict[str, Any]) -> None:
    net = an_oml("n_way_k_shot", None, **options)
    x, target = an_episode(0)
    queries = torch.randn(EPISODES, 5, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    expected = torch.stack(
        [
            plain(net, [(x[s, b], int(target[s, b])) for s in range(STEPS) if target[s, b] >= 0], queries[b])
            for b in range(EPISODES)
        ]
    )
    wanted = gradients_of(net, expected)
    stepping = net.start(EPISODES)
    for images, labels in zip(x, target, strict=True):
        stepping = net.observe(stepping, Feedback(labels, images))
    for state in (stepping, net.absorb(net.start(EPISODES), x, Feedback(target, x))):
        logits = net.query(state, queries)
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(gradients_of(net, logits), wanted)


@pytest.mark.parametrize("hidden", [0, 6])
def test_absorbing_a_stream_gives_the_state_of_stepping(hidden: int) -> None:
    net = an_oml("continual", 1, hidden=hidden)
    x, feedback = an_episode(1)
    whole = net.absorb(net.start(EPISODES), x, Feedback(feedback))
    first_part = net.absorb(net.start(EPISODES), x[:3], Feedback(feedback[:3]))
    parts = net.absorb(first_part, x[3:], Feedback(feedback[3:]))
    expected = stepped(net, x, feedback)[1]
    torch.testing.assert_close(whole, expected)
    torch.testing.assert_close(parts, expected)


def test_scoring_gives_the_same_answers_and_keeps_no_graph() -> None:
    net = an_oml(delay=2)
    x, feedback = an_episode(2)
    expected = net.rollout(x, Feedback(feedback))
    net.eval()
    logits, state = stepped(net, x, feedback)
    torch.testing.assert_close(logits, expected.detach())
    assert not any(each.requires_grad for each in (logits, *pytree.tree_leaves(state)))


def test_class_numbers_are_interchangeable_where_rows_begin_at_zero() -> None:
    x, feedback = an_episode(1)
    order = torch.tensor([2, 0, 3, 1])
    renamed = torch.where(feedback >= 0, order[feedback], feedback)
    for rows, alike in (("zero", True), ("random", False), ("learned", False)):
        net = an_oml(rows=rows)
        before, after = rolled(net, x, feedback), rolled(net, x, renamed)
        assert torch.allclose(before, after[..., order]) == alike


@pytest.mark.parametrize(("hidden", "weights"), [(0, 4 * 5 + 4), (6, 6 * 5 + 6 + 4 * 6 + 4)])
def test_the_state_is_the_weights_and_the_pending_features(hidden: int, weights: int) -> None:
    for delay in (1, 4):
        net = an_oml(delay=delay, hidden=hidden).float()
        x, feedback = an_episode(delay)
        state = stepped(net, x.float(), feedback)[1]
        assert state_bytes(state) == state_bytes(net.start(2)) == 4 * (weights + delay * 5)


def test_the_six_convolutions_cost_what_the_paper_prints() -> None:
    """1.46 GFLOP, two for a multiply and add: sides 26, 24, 22, 10, 8, 3 of 256 channels, then 2304-1024-5."""
    macs = 256 * (9 * 26**2 + 9 * 256 * (24**2 + 22**2 + 10**2 + 8**2 + 3**2)) + 2304 * 1024 + 1024 * 5
    net = OML(Task(5, (1, 28, 28), "continual", 1)).eval()
    with torch.no_grad(), Operations() as counter:
        net.query(net.start(1), torch.zeros(1, 1, 1, 28, 28))
    assert counter.total == 2 * macs
    assert f"{2 * macs / 1e9:.2f}" == "1.46"
    colour = OML(Task(5, (3, 28, 28), "continual", 1))
    with torch.no_grad(), Operations() as counter:
        colour.represent(torch.zeros(1, 3, 28, 28))
    assert f"{counter.total / 1e9:.2f}" == "1.46"


def test_the_released_sizes_have_as_many_parameters_as_counted_by_hand() -> None:
    """6.34 million with three input channels and a thousand learned rows."""
    net = OML(Task(1000, (3, 28, 28), "continual", 1), rows="learned")
    convs = 256 * (27 + 1) + 5 * 256 * (9 * 256 + 1)
    linears = 1024 * (2304 + 1) + 1000 * (1024 + 1)
    trained = sum(each.numel() for each in net.parameters() if each.requires_grad)
    assert trained == convs + linears
    assert f"{trained / 1e6:.2f}" == "6.34"


def test_images_that_are_too_small_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="16x16 vanish in six convolutions"):
        an_oml(net="flops")
