"""ANML against a plain loop over episodes and steps with autograd, and its released sizes counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from harness.method.interface import Feedback, Task, state_bytes
from methods.anml import ANML
from tests.helpers.stepping import gradients_of, rolled, seeded, stepped

WAYS, STEPS, EPISODES = 3, 6, 2
SIDE = 22
SMALL: dict[str, Any] = {"channels": 4, "modulator": 3, "rate": 0.3, "learned_rate": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "all": {},
    "all, learned rows": {"rows": "learned"},
    "all, random rows, first order": {"rows": "random", "first_order": True},
    "all, features of both signs, slower trunk": {"final_relu": False, "trunk_rate": 0.1},
    "head": {"adapts": "head"},
    "head, learned rows, first order": {"adapts": "head", "rows": "learned", "first_order": True},
}


def an_anml(kind: str = "delayed_label", delay: int | None = 1, side: int = SIDE, **options: Any) -> ANML:
    with seeded(4):
        net = ANML(Task(WAYS, (2, side, side), kind, delay), **{**SMALL, **options}).double().train()
        for name, each in net.named_parameters():
            if "layers" in name and each.dim() == 1 and each.requires_grad:  # normalisation starts at ones and zeros
                with torch.no_grad():
                    each.add_(0.3 * torch.randn_like(each))
    return net


def an_episode(delay: int, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """Images [T, B, 2, side, side] and what is revealed before each step [T, B], one label never."""
    random = torch.Generator().manual_seed(6)
    x = torch.randn(STEPS, EPISODES, 2, side, side, dtype=torch.float64, generator=random)
    target = torch.randint(0, WAYS, (STEPS, EPISODES), generator=random)
    target[1, 0] = -1
    return x, torch.cat([torch.full((delay, EPISODES), -1), target[: STEPS - delay]]) if delay else target


def convolved(weights: Sequence[Tensor], image: Tensor, final_relu: bool = True) -> Tensor:
    """Features [D] of one image [C, H, W] through three convolutions, each map set to mean 0 and variance 1."""
    maps = image.unsqueeze(0)
    for layer in range(3):
        kernel, scale, shift = weights[3 * layer : 3 * layer + 3]
        maps = F.conv2d(maps, kernel)
        spread = (maps.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        maps = (maps - maps.mean((2, 3), keepdim=True)) / spread
        maps = maps * scale[:, None, None] + shift[:, None, None]
        if layer < 2 or final_relu:
            maps = maps.relu()
        if layer < 2:
            maps = F.max_pool2d(maps, 2)
    return maps.flatten()


def plain(net: ANML, pairs: list[tuple[Tensor, int]], queries: Tensor) -> Tensor:
    """Logits [Q, ways] of images [Q, ...] after learning from (image, label) pairs: one episode, by autograd."""
    signed = isinstance(net.trunk.layers[-2], torch.nn.GroupNorm)
    trunk, fixed = [*net.trunk.parameters()], [*net.gate[0].parameters()]
    head = next(iter(net.head.layers))
    own = [each if each.requires_grad else each.detach().requires_grad_() for each in (head.weight, head.bias)]
    head_rate = net.head.log_rates.exp()[0]
    moved, rates = own, [head_rate, head_rate]
    if net.adapts == "all":
        moved, rates = [*trunk, *own], [*net.log_rates.exp(), *rates]

    def answer(weights: Sequence[Tensor], image: Tensor) -> Tensor:
        convs = weights[:-2] or trunk
        gate = torch.sigmoid(net.gate[1].weight @ convolved(fixed, image) + net.gate[1].bias)
        return weights[-2] @ (convolved(convs, image, not signed) * gate) + weights[-1]

    for image, label in pairs:
        loss = F.cross_entropy(answer(moved, image), torch.tensor(label))
        gradients = torch.autograd.grad(loss, moved, create_graph=True)
        if net.first_order:
            gradients = tuple(gradient.detach() for gradient in gradients)
        moved = [each - rate * gradient for each, rate, gradient in zip(moved, rates, gradients, strict=True)]
    return torch.stack([answer(moved, image) for image in queries])


def plain_stream(net: ANML, x: Tensor, feedback: Tensor, delay: int) -> Tensor:
    """Logits [T, B, ways], every step from an episode run anew."""
    answers = []
    for t in range(STEPS):
        row = []
        for b in range(EPISODES):
            pairs = [(x[s - delay, b], int(feedback[s, b])) for s in range(delay, t + 1) if feedback[s, b] >= 0]
            row.append(plain(net, pairs, x[t, b].unsqueeze(0))[0])
        answers.append(torch.stack(row))
    return torch.stack(answers)


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("delay", [1, 3])
def test_streams_and_their_meta_gradient_are_those_of_a_plain_loop(options: dict[str, Any], delay: int) -> None:
    net = an_anml(delay=delay, **options)
    x, feedback = an_episode(delay)
    expected = plain_stream(net, x, feedback, delay)
    wanted = gradients_of(net, expected)
    for logits in (stepped(net, x, feedback)[0], rolled(net, x, feedback)):
        torch.testing.assert_close(logits, expected)
        torch.testing.assert_close(gradients_of(net, logits), wanted)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_support_pairs_and_their_meta_gradient_are_those_of_a_plain_loop(options: dict[str, Any]) -> None:
    net = an_anml("n_way_k_shot", None, **options)
    x, target = an_episode(0)
    random = torch.Generator().manual_seed(7)
    queries = torch.randn(EPISODES, 4, *x.shape[2:], dtype=torch.float64, generator=random)
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


@pytest.mark.parametrize("adapts", ["all", "head"])
def test_absorbing_a_stream_gives_the_state_of_stepping(adapts: str) -> None:
    net = an_anml("continual", 1, adapts=adapts)
    x, feedback = an_episode(1)
    first_part = net.absorb(net.start(EPISODES), x[:2], Feedback(feedback[:2]))
    state = net.absorb(first_part, x[2:], Feedback(feedback[2:]))
    torch.testing.assert_close(state, stepped(net, x, feedback)[1])


@pytest.mark.parametrize("adapts", ["all", "head"])
def test_scoring_gives_the_same_answers_and_keeps_no_history(adapts: str) -> None:
    net = an_anml(delay=2, adapts=adapts)
    x, feedback = an_episode(2)
    expected = net.rollout(x, Feedback(feedback)).detach()
    net.eval()
    logits, state = stepped(net, x, feedback)
    for each in (logits, rolled(net, x, feedback)):
        torch.testing.assert_close(each, expected)
        assert not each.requires_grad
    assert all(each.is_leaf for each in pytree.tree_leaves(state))


def test_as_the_source_scores_only_the_head_learns_in_scoring() -> None:
    x, feedback = an_episode(1)
    nets = {adapts: an_anml(adapts=adapts) for adapts in ("all", "head", "source")}
    for training, same in ((True, "all"), (False, "head")):
        for net in nets.values():
            net.train(training)
        found = {adapts: stepped(net, x, feedback)[0] for adapts, net in nets.items()}
        torch.testing.assert_close(found["source"], found[same])
        assert not torch.allclose(found["all"], found["head"])


def test_class_numbers_are_interchangeable_where_rows_begin_at_zero() -> None:
    x, feedback = an_episode(1)
    order = torch.tensor([2, 0, 1])
    renamed = torch.where(feedback >= 0, order[feedback], feedback)
    for rows, alike in (("zero", True), ("random", False)):
        net = an_anml(rows=rows)
        before, after = rolled(net, x, feedback), rolled(net, x, renamed)
        assert torch.allclose(before, after[..., order]) == alike


def test_images_are_pooled_to_the_resolution_first() -> None:
    x, feedback = an_episode(1, side=44)
    pooled = F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])
    net, large = an_anml(), an_anml(side=44, resolution=22)
    expected = net.rollout(pooled, Feedback(feedback))
    torch.testing.assert_close(large.rollout(x, Feedback(feedback)), expected)
    torch.testing.assert_close(stepped(large, x, feedback)[0], expected)


def test_the_state_is_the_weights_and_what_is_pending() -> None:
    trunk, features = 4 * 2 * 9 + 2 * 4 * 4 * 9 + 3 * 2 * 4, 4 * 2 * 2
    head = WAYS * features + WAYS
    for delay in (1, 4):
        x, feedback = an_episode(delay)
        for adapts, numbers in (("all", trunk + head + delay * 2 * SIDE**2), ("head", head + delay * features)):
            net = an_anml(delay=delay, adapts=adapts).float()
            assert state_bytes(stepped(net, x.float(), feedback)[1]) == state_bytes(net.start(2)) == 4 * numbers


def test_the_released_sizes_have_as_many_parameters_as_counted_by_hand() -> None:
    """6.04 million over a single channel and a thousand classes; 2.55 and 3.49 million in the two nets."""
    net = ANML(Task(1000, (1, 28, 28), "continual", 1), rows="learned")
    modulator = 112 * 9 + 2 * 112 * 112 * 9 + 3 * 2 * 112 + 2304 * (1008 + 1)
    prediction = 256 * 9 + 2 * 256 * 256 * 9 + 3 * 2 * 256 + 1000 * (2304 + 1)
    assert sum(each.numel() for each in net.gate.parameters()) == modulator
    assert sum(each.numel() for each in net.parameters() if each.requires_grad) == modulator + prediction
    assert [f"{count / 1e6:.2f}" for count in (modulator, prediction)] == ["2.55", "3.49"]
    assert f"{(modulator + prediction) / 1e6:.2f}" == "6.04"


@pytest.mark.parametrize(
    ("side", "options", "said"),
    [
        (21, {}, "21x21 .* use 22x22"),
        (28, {"resolution": 14}, "14x14"),
    ],
)
def test_impossible_options_are_refused_with_the_reason(side: int, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        an_anml(side=side, **options)
