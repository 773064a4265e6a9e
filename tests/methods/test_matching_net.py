"""Matching networks against sums by hand and torch's own LSTMs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.method.interface import Feedback, Task, state_bytes
from methods.matching_net import MatchingNet
from methods.nn.context import FullContext
from methods.nn.novelty import UNSEEN
from tests.helpers.stepping import noise_stream, seeded, stepped_logits

WAYS, EPISODES = 4, 3


def stream(delay: int, steps: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Noise x [T, B, C, H, W], targets and feedback [T, B]."""
    return noise_stream(delay, steps, WAYS, EPISODES)


def built(delay: int | None = 1, kind: str = "delayed_label", **options: Any) -> MatchingNet:
    with seeded(7):
        return MatchingNet(Task(WAYS, (1, 16, 16), kind, delay), channels=6, **options).double().eval()


def lstm_like(context: FullContext) -> nn.LSTM:
    """torch's own LSTM with the same weights, whose gates come in the order i, f, g, o."""
    size = context.right.hidden.in_features
    both = nn.LSTM(size, size, bidirectional=True).double()

    def turned(each: Tensor) -> Tensor:
        i, f, o, g = each.chunk(4)
        return torch.cat([i, f, g, o])

    with torch.no_grad():
        for end, cell in (("", context.right), ("_reverse", context.left)):
            getattr(both, f"weight_ih_l0{end}").copy_(turned(cell.drive.weight))
            getattr(both, f"weight_hh_l0{end}").copy_(turned(cell.hidden.weight))
            getattr(both, f"bias_ih_l0{end}").copy_(turned(cell.drive.bias))
            getattr(both, f"bias_hh_l0{end}").zero_()
    return both


def embedded(net: MatchingNet, query: Tensor, shown: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """f(x) [D] and all g(x_i) [D], one episode and one image at a time."""
    context = net.context
    if context is None:
        return query, shown
    both = lstm_like(context)
    outputs = both(torch.stack(shown))[0]
    size = len(query)
    g = [out[:size] + out[size:] + own for out, own in zip(outputs, shown, strict=True)]
    h, c = torch.zeros_like(query), torch.zeros_like(query)
    cell = context.reader
    for _ in range(context.reads):
        weights = torch.tensor([float(h @ each) for each in g]).double().exp()
        read = sum(float(w) * each for w, each in zip(weights / weights.sum(), g, strict=True))
        gates = cell.drive.weight @ query + cell.drive.bias + cell.hidden.weight @ torch.cat([h, read])
        i, f, o, new = gates.split(size)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(new)
        h = torch.sigmoid(o) * torch.tanh(c) + query
    return h, g


def chances(net: MatchingNet, query: Tensor, shown: list[tuple[Tensor, int]]) -> np.ndarray:
    """Attention by class [ways], by hand."""
    f, g = embedded(net, query, [each for each, _ in shown])
    weights = [np.exp(10 * float(f @ each) / float(f.norm() * each.norm())) for each in g]
    found = np.zeros(WAYS)
    for weight, (_, label) in zip(weights, shown, strict=True):
        found[label] += weight / sum(weights)
    return found


@pytest.mark.parametrize("delay", [1, 3, 12])
@pytest.mark.parametrize("context", ["none", "full"])
def test_answers_are_attention_over_what_is_revealed(delay: int, context: str) -> None:
    net = built(delay, context=context)
    x, target, feedback = stream(delay)
    with torch.no_grad():
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        ways = [stepped_logits(net, x, feedback).numpy(), net.rollout(x, Feedback(feedback)).numpy()]
        for b in range(EPISODES):
            for t in range(len(x)):
                shown = [(features[i, b], int(target[i, b])) for i in range(t - delay + 1)]
                expected = chances(net, features[t, b], shown) if shown else np.zeros(WAYS)
                for logits in ways:
                    assert all(logits[t, b, k] == UNSEEN for k in range(WAYS) if not expected[k])
                    seen = expected > 0
                    np.testing.assert_allclose(np.exp(logits[t, b][seen]), expected[seen], rtol=1e-8)


@pytest.mark.parametrize("context", ["none", "full"])
def test_queries_after_support_pairs_are_answered_likewise(context: str) -> None:
    net = built(None, "n_way_k_shot", context=context)
    x, target, _ = stream(1)
    queries = stream(2)[0].transpose(0, 1)
    with torch.no_grad():
        state = net.start(EPISODES)
        for images, label in zip(x, target, strict=True):
            state = net.observe(state, Feedback(label, images))
        logits = net.query(state, queries).numpy()
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        query_features = net.backbone(queries.flatten(0, 1)).unflatten(0, queries.shape[:2])
        for b in range(EPISODES):
            shown = [(features[i, b], int(target[i, b])) for i in range(len(x))]
            for q, query in enumerate(query_features[b]):
                expected = chances(net, query, shown)
                seen = expected > 0
                np.testing.assert_allclose(np.exp(logits[b, q][seen]), expected[seen], rtol=1e-8)


@pytest.mark.parametrize("context", ["none", "full"])
def test_an_image_without_a_label_is_never_attended_to(context: str) -> None:
    net = built(context=context)
    x, _, feedback = stream(1)
    feedback[4] = -1
    changed = x.clone()
    changed[3] = 0.0
    with torch.no_grad():
        for way in (stepped_logits, lambda net, x, feedback: net.rollout(x, Feedback(feedback))):
            first, second = (way(net, each, feedback) for each in (x, changed))
            torch.testing.assert_close(first[4:], second[4:])


@pytest.mark.parametrize("context", ["none", "full"])
def test_rollout_gives_what_stepping_gives_in_gradient(context: str) -> None:
    net = built(2, context=context)
    x, _, feedback = stream(2)
    learning = [each for each in net.parameters() if each.requires_grad]
    found = []
    for logits in (stepped_logits(net, x, feedback), net.rollout(x, Feedback(feedback))):
        weight = torch.linspace(-1, 2, logits.numel()).double().view_as(logits)
        found.append(torch.autograd.grad((logits * weight)[logits > UNSEEN / 2].sum(), learning))
    torch.testing.assert_close(found[0], found[1], rtol=1e-7, atol=1e-8)
    assert all(each.any() for each in found[0])


def test_the_state_grows_by_one_image_a_step() -> None:
    net = built(3, context="full")
    x, _, feedback = stream(3)
    state, sizes = net.start(EPISODES), []
    with torch.no_grad():
        for images, label in zip(x, feedback, strict=True):
            _, state = net.predict(net.observe(state, Feedback(label)), images)
            sizes.append(state_bytes(state))
    assert {after - before for before, after in pairwise(sizes[3:])} == {net.backbone.dim * 8 + 8}
