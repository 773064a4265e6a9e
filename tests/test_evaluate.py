"""Scoring: per episode, whatever is asked for beside it, and without touching the method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness import evaluate as module
from harness.evaluate import evaluate
from tests.training_material import training


def test_an_episodes_score_does_not_depend_on_how_many_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    each = training(tmp_path)
    many, few = (evaluate(each.method, each.source, each.protocol, "test", n) for n in (11, 5))
    assert many.by_step.shape == (11, 9)
    for name, values in few.arrays().items():
        assert np.array_equal(values, many.arrays()[name][:5]), name


def test_scoring_changes_nothing_in_the_method_and_needs_no_gradient(tmp_path: Path) -> None:
    each = training(tmp_path)
    each.method.train()
    before = {name: tensor.clone() for name, tensor in each.method.state_dict().items()}
    seen = []
    hook = each.method.classify.register_forward_hook(
        lambda net, _, out: seen.append((net.training, out.requires_grad))
    )
    evaluate(each.method, each.source, each.protocol, "test", 3)
    hook.remove()
    assert set(seen) == {(False, False)}
    assert each.method.training
    for name, tensor in each.method.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_progress_counts_every_episode_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    each = training(tmp_path)
    counted: list[int] = []
    evaluate(each.method, each.source, each.protocol, "test", 10, counted.append)
    assert counted == [4, 4, 2]
