"""Online prototypes against plain means over lists."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from harness.method.interface import Feedback, Task
from methods.nn.novelty import UNSEEN
from methods.opn import OPN
from tests.helpers.stepping import stream_batch


def a_stream(delay: int, steps: int = 9, episodes: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(delay)
    x, target = torch.rand(steps, episodes, 1, 16, 16), torch.randint(0, 4, (steps, episodes))
    null = torch.full((min(delay, steps), episodes), -1)
    return x, target, torch.cat([null, target[: max(0, steps - delay)]])


def an_opn(delay: int, **options: Any) -> OPN:
    torch.manual_seed(7)
    return OPN(Task(4, (1, 16, 16), "delayed_label", delay), channels=6, **options).eval()


@pytest.mark.parametrize("delay", [1, 3, 9, 12])
@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_answers_are_nearest_plain_means_of_revealed_features(delay: int, similarity: str) -> None:
    net = an_opn(delay, similarity=similarity)
    x, target, feedback = a_stream(delay)
    with torch.no_grad():
        state, answers = net.start(3), []
        for image, label in zip(x, feedback, strict=True):
            logits, state = net.predict(net.observe(state, Feedback(label)), image)
            answers.append(logits)
        fast = net.rollout(x, Feedback(feedback))
        features = [net.encode(image) for image in x]
    for t in range(len(x)):
        for b in range(3):
            for k in range(4):
                # Known at step t: what was shown at least `delay` steps ago.
                known = [features[i][b] for i in range(t - delay + 1) if target[i, b] == k]
                if not known:
                    expected = torch.tensor(UNSEEN)
                elif similarity == "euclidean":
                    expected = -(features[t][b] - sum(known) / len(known)).square().sum()
                else:
                    expected = 10 * F.cosine_similarity(features[t][b], sum(known) / len(known), dim=0)
                torch.testing.assert_close(answers[t][b, k], expected, rtol=1e-4, atol=1e-4)
                torch.testing.assert_close(fast[t][b, k], expected, rtol=1e-4, atol=1e-4)


def test_loss_is_the_two_terms_of_the_source() -> None:
    """Cross-entropy among seen classes where the class was seen; "unknown" told from the nearest distance."""
    net = an_opn(1)
    logits = torch.tensor(
        [[[UNSEEN, UNSEEN, UNSEEN, UNSEEN]], [[-3.0, UNSEEN, UNSEEN, UNSEEN]], [[-3.0, -8.0, UNSEEN, UNSEEN]]]
    )
    target = torch.tensor([[0], [1], [0]])
    beta, gamma = 10.0, 1.0
    known = -torch.log(torch.exp(torch.tensor(-3.0)) / (torch.exp(torch.tensor(-3.0)) + torch.exp(torch.tensor(-8.0))))
    new = torch.tensor((3.0 - beta) / gamma)
    unknown = -F.logsigmoid(new) - F.logsigmoid(-new)
    torch.testing.assert_close(net.loss(logits, stream_batch(target)), known + unknown)


def test_state_holds_the_pending_features_and_counts_them() -> None:
    sizes = []
    for delay in (1, 5):
        net = an_opn(delay)
        sizes.append(sum(leaf[0].numel() * leaf.element_size() for leaf in net.start(2).values()))
    assert sizes[1] - sizes[0] == 4 * net.dim * 4  # four more pending feature vectors of four-byte numbers


def test_a_class_without_a_revealed_label_never_wins() -> None:
    net = an_opn(2)
    x, _, feedback = a_stream(2)
    logits = net.rollout(x, Feedback(feedback))
    for t in range(2, len(x)):
        for b in range(3):
            assert int(logits[t, b].argmax()) in set(feedback[: t + 1, b].tolist())
