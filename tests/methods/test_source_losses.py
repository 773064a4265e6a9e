"""The loss of Ren et al. as their code takes it, a mean over steps, against a plain loop over episodes and steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.method.interface import Feedback, Task
from harness.training.interface import Batch
from methods.cpm import CPM
from methods.matching_online import MatchingOnline
from methods.nn.novelty import UNSEEN
from methods.opn import OPN
from tests.helpers.stepping import noise_stream, seeded, stream_batch

WAYS, EPISODES, STEPS = 4, 3, 9
METHODS: dict[str, Callable[..., Any]] = {"cpm": CPM, "opn": OPN, "matching_online": MatchingOnline}


def plain_loss(net: Any, logits: Tensor, target: Tensor, scored: Tensor, weight: float) -> Tensor:
    """Both terms written out, from logits [T, B, ways] whose largest is minus the "unknown" logit (but for OPN's)."""
    known, new = [], []
    for t in range(len(logits)):
        for b in range(logits.shape[1]):
            seen = [k for k in range(WAYS) if logits[t, b, k] > UNSEEN / 2]
            if not seen or not scored[t, b]:
                continue
            unknown = -logits[t, b, seen].max()
            if isinstance(net, OPN):
                unknown = (unknown - net.beta) / net.gamma
            label = int(target[t, b])
            if label in seen:
                known.append(-logits[t, b, seen].log_softmax(0)[seen.index(label)])
                new.append(-F.logsigmoid(-unknown))
            else:
                new.append(-F.logsigmoid(unknown))
    return torch.stack(known).mean() + weight * torch.stack(new).mean()


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_over_steps_is_that_of_a_plain_loop(name: str) -> None:
    with seeded(3):
        task = Task(WAYS, (1, 16, 16), "online_few_shot", 1)
        net = METHODS[name](task, channels=5, unknown_weight=0.7, mean_over="steps").eval()
    x, target, feedback = noise_stream(1, STEPS, WAYS, EPISODES)
    scored = torch.ones_like(target, dtype=torch.bool)
    scored[2, 0] = scored[7, 2] = False
    logits = net.rollout(x.float(), Feedback(feedback)).detach().requires_grad_()
    found = net.loss(logits, stream_batch(target, scored))
    wanted = plain_loss(net, logits, target, scored, 0.7)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(each, logits)[0] for each in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
    assert gradients[0].any()


@pytest.mark.parametrize("name", METHODS)
def test_without_an_unknown_logit_it_is_the_mean_over_seen_classes_and_zero_where_there_are_none(name: str) -> None:
    net = METHODS[name](Task(WAYS, (1, 16, 16), "n_way_k_shot"), channels=5, mean_over="steps")
    logits = torch.tensor([[[1.0, 2.0, UNSEEN, UNSEEN], [UNSEEN] * 4]], requires_grad=True)
    target = torch.tensor([[1, 0]])
    batch = Batch(torch.zeros(1, 2, 1, 16, 16), target, target >= 0, 0, torch.zeros(2, WAYS, dtype=torch.int64))
    torch.testing.assert_close(net.loss(logits, batch), -torch.tensor([1.0, 2.0]).log_softmax(0)[1])
    nothing = torch.full((1, 2, WAYS), UNSEEN)
    assert float(net.loss(nothing, batch)) == 0
