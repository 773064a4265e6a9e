"""Stages that train a net of memory on episodes as if it had none: what they minimise, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.method.registry import build_method
from harness.training import loop
from harness.training.objective_of_stage import objective_of_stage
from harness.training.state import Training
from harness.util.errors import UserError
from methods.cl_lstm import CLLSTM
from methods.csn import CSN
from tests.helpers.training import assert_same, interrupting, protocol, training, weights

STAGES: list[dict[str, Any]] = [
    {"name": "features and LSTM", "objective": "memoryless", "episodes": 12},
    {"name": "the protocol", "episodes": 4},
]


def forgetful(folder: Path, **options: Any) -> Training:
    """A training of a CL+LSTM whose convolutional layers see nothing of their past, by its weights: forget gates are
    shut, and both labels and what was before have weights of zero."""
    each = training(folder, stages=STAGES, augment=[])
    settings = {"channels": 4, "lstm": 8, "resolution": 8, "forget_bias": -200.0, "memory_init": 0.0, **options}
    return replace(each, method=build_method(CLLSTM, each.method.task, settings, 0))


@pytest.mark.parametrize("labels", ["lstm", "first", "all"])
def test_without_memory_the_loss_is_that_of_a_net_that_remembers_nothing(labels: str, tmp_path: Path) -> None:
    found = forgetful(tmp_path, labels=labels)
    numbers = np.arange(4)
    losses, gradients = [], []
    for number in (0, 1):
        objective = objective_of_stage(found, number, protocol())
        drawn = objective.drawn(numbers)
        if number:  # another stage, other episodes: those of the first are played by the whole net
            drawn = objective_of_stage(found, 0, protocol()).drawn(numbers)
        found.method.zero_grad()
        loss = objective.loss(drawn)
        loss.minimised.backward()
        losses.append(loss)
        gradients.append({name: each.grad for name, each in found.method.named_parameters()})
    alone, whole = losses
    assert alone.minimised.item() == pytest.approx(whole.minimised.item(), rel=1e-5)
    assert alone.steps == whole.steps
    seen = 0
    for name, gradient in gradients[0].items():
        of_memory = "hidden" in name
        assert (gradient is None) == of_memory, name
        if gradient is None or (labels != "lstm" and name.endswith("inputs.weight")):
            continue  # the planes of labels, of which there are none without memory
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)
        seen += 1
    assert seen > 10


def test_features_are_trained_and_memory_is_left_alone(tmp_path: Path) -> None:
    each = training(tmp_path, stages=STAGES[:1])
    before = weights(each)
    events: list[tuple[str, int]] = []
    loop.train(each, lambda progress, _, event: events.append((event, progress.episodes)))
    after = each.method.state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == ("hidden" in name), name
    assert [at for event, at in events if event == "validation"] == [8, 12]


def test_it_resumes_to_the_same_bits(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "cut")]
    for folder in folders:
        folder.mkdir()
    whole, cut, resumed = (training(folder, stages=STAGES) for folder in [*folders, folders[1]])
    loop.train(whole)
    with pytest.raises(KeyboardInterrupt):
        loop.train(cut, interrupting(3))
    loop.train(resumed)
    assert_same(weights(resumed), weights(whole))


def test_a_method_that_answers_from_images_alone_is_refused(tmp_path: Path) -> None:
    each = training(tmp_path, stages=STAGES)
    options = {"channels": 4, "resolution": 16, "key": 4, "hidden": 4}
    each = replace(each, method=build_method(CSN, replace(each.method.task, label_delay=1), options, 0))
    with pytest.raises(UserError, match=r"objective 'memoryless', but CSN has no memoryless_features\(\) that can"):
        loop.train(each)
