"""Meta-SGD on concepts against autograd, one episode at a time, in value and in the gradient through it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.episodes.source import EpisodeSource
from harness.method.interface import Feedback, Task
from harness.protocol.models import PROTOCOL
from harness.testing import tiny_dataset
from harness.training.recipe import Budget
from harness.training.stages import begin_stage
from harness.training.state import Training
from methods.deml import DEML
from tests.helpers.stepping import perturb, seeded

WAYS, EPISODES = 3, 2


def built(delay: int | None = None, kind: str = "n_way_k_shot", **options: Any) -> DEML:
    with seeded(7):
        net = DEML(Task(WAYS, (1, 16, 16), kind, delay, 9), channels=5, **options)
        perturb((net.weight, net.bias, net.weight_rate, net.bias_rate), 0.3)
    return net.double().eval()


def images(seed: int, steps: int = 7) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = torch.rand(steps, EPISODES, 1, 16, 16, generator=random).double()
    return x, torch.randint(0, WAYS, (steps, EPISODES), generator=random)


def moved(net: DEML, weight: Tensor, bias: Tensor, concepts: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One step of Meta-SGD for one episode by autograd."""
    loss = F.cross_entropy(concepts @ weight.T + bias, target)
    slopes = torch.autograd.grad(loss, (weight, bias), create_graph=True)
    return weight - net.weight_rate * slopes[0], bias - net.bias_rate * slopes[1]


@pytest.mark.parametrize("steps", [1, 3])
def test_a_support_set_is_steps_of_meta_sgd_and_training_goes_through_them(steps: int) -> None:
    net = built(steps=steps)
    (x, target), (queries, query_target) = images(1), images(2)
    learning = [each for name, each in net.named_parameters() if not name.startswith("discriminate")]
    state = net.start(EPISODES)
    for shown, label in zip(x, target, strict=True):
        state = net.observe(state, Feedback(label, shown))
    logits = net.query(net.adapt(state), queries.transpose(0, 1))
    loss = F.cross_entropy(logits.flatten(0, 1), query_target.T.flatten())
    expected, total = [], torch.zeros(()).double()
    for b in range(EPISODES):
        weight, bias = net.weight + 0, net.bias + 0
        for _ in range(steps):
            weight, bias = moved(net, weight, bias, net.backbone(x[:, b]), target[:, b])
        expected.append(net.backbone(queries[:, b]) @ weight.T + bias)
        total = total + F.cross_entropy(expected[-1], query_target[:, b]) / EPISODES
    torch.testing.assert_close(logits, torch.stack(expected))
    found, wanted = torch.autograd.grad(loss, learning), torch.autograd.grad(total, learning)
    torch.testing.assert_close(found, wanted)
    assert all(
        each.any() for name, each in zip(dict(net.named_parameters()), wanted, strict=False) if "bias" not in name
    )


@pytest.mark.parametrize("delay", [1, 3])
def test_in_a_stream_each_label_is_a_step_when_it_is_revealed(delay: int) -> None:
    net = built(delay, "delayed_label")
    x, target = images(3)
    feedback = torch.cat([torch.full((delay, EPISODES), -1), target[:-delay]])
    state, stepped = net.start(EPISODES), []
    for shown, label in zip(x, feedback, strict=True):
        logits, state = net.predict(net.observe(state, Feedback(label)), shown)
        stepped.append(logits)
    rolled = net.rollout(x, Feedback(feedback))
    for b in range(EPISODES):
        weight, bias = net.weight + 0, net.bias + 0
        concepts = net.backbone(x[:, b])
        for t in range(len(x)):
            if t >= delay:
                past = slice(t - delay, t - delay + 1)
                weight, bias = moved(net, weight, bias, concepts[past], target[past, b])
            expected = concepts[t] @ weight.T + bias
            torch.testing.assert_close(stepped[t][b], expected)
            torch.testing.assert_close(rolled[t, b], expected)


def test_the_joint_loss_is_that_of_episodes_and_of_the_discriminator(tmp_path: Any) -> None:
    data = {"kind": "n_way_k_shot", "title": "tiny", "dataset": "objects"}
    protocol = PROTOCOL.validate_python({**data, "episode": {"ways": WAYS, "shots": 1, "queries": 2}})
    source = EpisodeSource(tiny_dataset("objects"))
    classes = len(source.dataset.tables["train"].names)
    net = DEML(Task(WAYS, (3, 32, 32), "n_way_k_shot", None, classes), channels=5).eval()

    def loss(weight: float | None) -> Tensor:
        stage = {"name": "joint", "episodes": 8, "classes_weight": weight, "classes_batch": 6}
        budget = Budget.model_validate({"batch": 2, "stages": [stage]})
        training = Training(net, source, protocol, budget, 0, tmp_path / "none", {})
        objective = begin_stage(training, 0).objective
        return objective.loss(objective.drawn(np.arange(2))).minimised

    alone, joint, twice = loss(None), loss(1.0), loss(2.0)
    torch.testing.assert_close(twice - joint, joint - alone)
    slope = torch.autograd.grad(joint, net.discriminate.weight)[0]
    assert slope.any()
    # A fresh layer over 8 classes knows nothing yet.
    assert (joint - alone).item() == pytest.approx(torch.tensor(float(classes)).log().item(), abs=0.7)
