"""Prototypes against plain means over lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.method.interface import Feedback, Task
from methods.nn.novelty import UNSEEN
from methods.protonet import ProtoNet
from tests.helpers.stepping import noise_stream, seeded, stream_batch

WAYS, EPISODES = 4, 3


def built(delay: int | None = 1, kind: str = "delayed_label", **options: Any) -> ProtoNet:
    with seeded(7):
        return ProtoNet(Task(WAYS, (1, 16, 16), kind, delay), channels=6, **options).double().eval()


def stream(delay: int, steps: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Noise x [T, B, C, H, W], targets and feedback [T, B]."""
    return noise_stream(delay, steps, WAYS, EPISODES)


def expected(query: np.ndarray, shown: list[np.ndarray], similarity: str, scale: float) -> float:
    if not shown:
        return UNSEEN
    mean = np.mean(shown, 0)
    if similarity == "euclidean":
        return -scale * float(((query - mean) ** 2).sum())
    return scale * float(query @ mean / np.sqrt((query @ query) * (mean @ mean)))


@pytest.mark.parametrize("delay", [1, 3, 12])
@pytest.mark.parametrize(("similarity", "scale"), [("euclidean", 1.0), ("cosine", 10.0), ("euclidean", 0.25)])
def test_answers_are_nearest_plain_means_of_what_is_revealed(delay: int, similarity: str, scale: float) -> None:
    net = built(delay, similarity=similarity, scale=scale if scale < 1 else None)
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
                wanted = expected(features[t, b], shown, similarity, scale)
                assert stepped[t][b, k] == pytest.approx(wanted, rel=1e-9)
                assert rolled[t, b, k] == pytest.approx(wanted, rel=1e-9)


def test_the_loss_is_cross_entropy_among_seen_classes_and_nothing_else() -> None:
    logits = torch.tensor([[[UNSEEN] * 4], [[-3.0, UNSEEN, UNSEEN, UNSEEN]], [[-3.0, -8.0, UNSEEN, UNSEEN]]])
    target = torch.tensor([[0], [1], [1]])
    found = built().loss(logits, stream_batch(target))
    torch.testing.assert_close(found, F.cross_entropy(torch.tensor([[-3.0, -8.0]]), torch.tensor([1])))


def test_the_factor_is_learned_where_the_source_needs_one() -> None:
    assert not built().scale.requires_grad
    assert built(similarity="cosine").scale.requires_grad
    assert built(scale=0.2).scale.requires_grad  # or where it is asked for
