"""PPA against plain means, and what its parameters are at the beginning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.method.interface import Feedback, Task
from methods.nn.novelty import UNSEEN
from methods.ppa import PPA
from tests.helpers.stepping import noise_stream, perturb, seeded

WAYS, EPISODES = 4, 3


def built(delay: int | None = 1, kind: str = "delayed_label", moved: bool = True, **options: Any) -> PPA:
    with seeded(7):
        net = PPA(Task(WAYS, (1, 16, 16), kind, delay, 9), channels=6, **options)
        if moved:
            perturb((*net.first.parameters(), *net.second.parameters()), 0.3)
    return net.double().eval()


def stream(delay: int, steps: int = 11) -> tuple[Tensor, Tensor, Tensor]:
    """Noise x [T, B, C, H, W], targets and feedback [T, B]."""
    return noise_stream(delay, steps, WAYS, EPISODES)


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.sqrt((v * v).sum())


def expected(net: PPA, query: np.ndarray, shown: list[np.ndarray]) -> float:
    """The logit of a class whose activations are `shown`."""
    first, second = ((each.weight.detach().numpy(), each.bias.detach().numpy()) for each in (net.first, net.second))
    hidden = np.maximum(first[0] @ unit(np.mean(shown, 0)) + first[1], 0)
    return net.scale.item() * float(unit(second[0] @ hidden + second[1]) @ unit(query))


@pytest.mark.parametrize("delay", [1, 3, 12])
def test_answers_are_those_of_predicted_weights_of_plain_means(delay: int) -> None:
    net = built(delay)
    x, target, feedback = stream(delay)
    with torch.no_grad():
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2]).numpy()
        state, stepped = net.start(EPISODES), []
        for images, label in zip(x, feedback, strict=True):
            logits, state = net.predict(net.observe(state, Feedback(label)), images)
            stepped.append(logits.numpy())
        rolled = net.rollout(x, Feedback(feedback)).numpy()
    for t in range(len(x)):
        for b in range(EPISODES):
            for k in range(WAYS):
                shown = [features[i, b] for i in range(t - delay + 1) if target[i, b] == k]
                wanted = expected(net, features[t, b], shown) if shown else UNSEEN
                assert stepped[t][b, k] == pytest.approx(wanted, rel=1e-9)
                assert rolled[t, b, k] == pytest.approx(wanted, rel=1e-9)


def test_queries_after_support_pairs_are_answered_likewise() -> None:
    net = built(None, "n_way_k_shot")
    x, target, _ = stream(1)
    queries = stream(2)[0].transpose(0, 1)
    with torch.no_grad():
        state = net.start(EPISODES)
        for images, label in zip(x, target, strict=True):
            state = net.observe(state, Feedback(label, images))
        answers = [net.query(net.adapt(state), queries).numpy()]
        absorbed = net.absorb(net.start(EPISODES), x, Feedback(target, x))
        answers.append(net.query(absorbed, queries).numpy())
        features = net.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2]).numpy()
        query_features = net.backbone(queries.flatten(0, 1)).unflatten(0, queries.shape[:2]).numpy()
    for b in range(EPISODES):
        for k in range(WAYS):
            shown = [features[i, b] for i in range(len(x)) if target[i, b] == k]
            for q, query in enumerate(query_features[b]):
                for logits in answers:
                    assert logits[b, q, k] == pytest.approx(expected(net, query, shown) if shown else UNSEEN)


def test_before_it_is_trained_the_nearest_mean_by_angle_answers() -> None:
    net = built(moved=False)
    means = torch.rand(5, net.dim).double()
    torch.testing.assert_close(net.predicted(means), means / means.norm(dim=-1, keepdim=True))
