"""The online matching network against NumPy over a list of exemplars."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.method.interface import Feedback, Task, state_bytes
from methods.matching_online import MatchingOnline
from methods.nn.novelty import UNSEEN
from tests.helpers.stepping import noise_stream, seeded, stepped_logits

WAYS, EPISODES = 4, 3


def stream(delay: int, steps: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Noise x [T, B, C, H, W], targets and feedback [T, B]."""
    return noise_stream(delay, steps, WAYS, EPISODES)


def built(delay: int | None = 1, kind: str = "delayed_label", **options: Any) -> MatchingOnline:
    with seeded(7):
        net = MatchingOnline(Task(WAYS, (1, 16, 16), kind, delay), channels=6, **options)
        with torch.no_grad():
            net.beta.fill_(0.4)
            net.gamma.fill_(1.7)
    return net.double().eval()


def chances(query: np.ndarray, exemplars: list[tuple[np.ndarray, int]], similarity: str) -> tuple[np.ndarray, float]:
    """Attention by class [ways], and the greatest similarity."""
    if similarity == "cosine":
        alike = [float(query @ e / np.sqrt((query @ query) * (e @ e))) for e, _ in exemplars]
        weights = np.exp([7.5 * each for each in alike])
    else:
        alike = [-float(((query - e) ** 2).sum()) for e, _ in exemplars]
        weights = np.exp(alike)
    found = np.zeros(WAYS)
    for weight, (_, label) in zip(weights / weights.sum(), exemplars, strict=True):
        found[label] += weight
    return found, max(alike)


@pytest.mark.parametrize("delay", [1, 3, 12])
@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_answers_are_attention_over_the_list_of_exemplars(delay: int, similarity: str) -> None:
    net = built(delay, similarity=similarity)
    x, target, feedback = stream(delay)
    with torch.no_grad():
        features = net.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]).numpy()
        ways = [stepped_logits(net, x, feedback).numpy(), net.rollout(x, Feedback(feedback)).numpy()]
    for b in range(EPISODES):
        for t in range(len(x)):
            exemplars = [(features[i, b], int(target[i, b])) for i in range(t - delay + 1)]
            seen = sorted({label for _, label in exemplars})
            for logits in ways:
                assert all(logits[t, b, k] == UNSEEN for k in range(WAYS) if k not in seen)
                if exemplars:
                    expected, top = chances(features[t, b], exemplars, similarity)
                    got = np.exp(logits[t, b, seen] - logits[t, b].max())
                    np.testing.assert_allclose(got / got.sum(), expected[seen], rtol=1e-9)
                    assert -logits[t, b].max() == pytest.approx((0.4 - top) / 1.7)


def test_on_support_pairs_it_is_a_matching_network() -> None:
    net = built(None, "n_way_k_shot")
    x, target, _ = stream(1)
    queries = stream(2)[0].transpose(0, 1)
    with torch.no_grad():
        state = net.start(EPISODES)
        for images, label in zip(x, target, strict=True):
            state = net.observe(state, Feedback(label, images))
        logits = net.query(state, queries).numpy()
        features = net.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]).numpy()
        query_features = net.encode(queries.flatten(0, 1)).unflatten(0, queries.shape[:2]).numpy()
    for b in range(EPISODES):
        exemplars = [(features[i, b], int(target[i, b])) for i in range(len(x))]
        for q, query in enumerate(query_features[b]):
            expected, _ = chances(query, exemplars, "cosine")
            shown = expected > 0
            np.testing.assert_allclose(logits[b, q][shown], np.log(expected[shown]), rtol=1e-9)
            assert (logits[b, q][~shown] == UNSEEN).all()


def test_the_factor_may_be_learned() -> None:
    net = built(learned_scale=True, scale=3.0)
    x, _, feedback = stream(1)
    assert not built().scale.requires_grad
    before = net.rollout(x, Feedback(feedback)).detach()
    assert torch.autograd.grad(net.rollout(x, Feedback(feedback)).square().clamp(max=1e3).sum(), net.scale)[0] != 0
    with torch.no_grad():
        net.scale.fill_(7.5)
        assert not torch.allclose(net.rollout(x, Feedback(feedback)), before)
        torch.testing.assert_close(net.rollout(x, Feedback(feedback)), built().rollout(x, Feedback(feedback)))


def test_an_image_without_a_label_is_never_attended_to() -> None:
    net = built()
    x, _, feedback = stream(1)
    feedback[4] = -1
    changed = x.clone()
    changed[3] = 0.0
    with torch.no_grad():
        first, second = (stepped_logits(net, each, feedback) for each in (x, changed))
    assert torch.equal(first[4:], second[4:])


def test_rollout_gives_what_stepping_gives_in_gradient() -> None:
    net = built(2)
    x, _, feedback = stream(2)
    learning = [each for each in net.parameters() if each.requires_grad]
    found = []
    for logits in (stepped_logits(net, x, feedback), net.rollout(x, Feedback(feedback))):
        weight = torch.linspace(-1, 2, logits.numel()).double().view_as(logits)
        found.append(torch.autograd.grad((logits * weight).sum(), learning))
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-8)
    assert all(each.any() for each in found[0])


def test_the_state_grows_by_one_image_a_step() -> None:
    net = built(3)
    x, _, feedback = stream(3)
    state, sizes = net.start(EPISODES), []
    with torch.no_grad():
        for images, label in zip(x, feedback, strict=True):
            _, state = net.predict(net.observe(state, Feedback(label)), images)
            sizes.append(state_bytes(state))
    assert {after - before for before, after in pairwise(sizes[3:])} == {net.dim * 8 + 8}
