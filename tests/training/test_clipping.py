"""Clipping by entry, by parameter and altogether, and weight decay of matrices alone, against plain loops of NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.training.clipping import Clipping
from harness.training.recipe import Budget, budget_hash
from harness.training.stages import begin_stage
from harness.training.state import Progress, Training
from tests.helpers.training import training, weights

STAGE: dict[str, Any] = {"name": "the protocol", "episodes": 2}


def a_net() -> nn.Module:
    """Four parameters with gradients of very different sizes, one of 0, and a fifth without any."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.PReLU()).double()
    random = torch.Generator().manual_seed(1)
    for size, each in zip((30.0, 0.0, 4.0, 0.02), net.parameters(), strict=False):
        each.grad = size * torch.randn(each.shape, dtype=torch.float64, generator=random)
    return net


def clipped(gradients: list[np.ndarray], bounds: Clipping) -> list[np.ndarray]:
    found = [each.copy() for each in gradients]
    if bounds.value is not None:
        for each in found:
            for place in np.ndindex(each.shape):
                each[place] = max(-bounds.value, min(bounds.value, each[place]))
    if bounds.tensor_norm is not None:
        found = [each * bounds.tensor_norm / max(bounds.tensor_norm, float((each**2).sum() ** 0.5)) for each in found]
    if bounds.norm is not None:
        whole = float(sum((each**2).sum() for each in found) ** 0.5)
        found = [each * bounds.norm / max(bounds.norm, whole) for each in found]
    return found


@pytest.mark.parametrize(
    "bounds",
    [
        Clipping(),
        Clipping(value=10.0),
        Clipping(tensor_norm=5.0),
        Clipping(norm=7.0),
        Clipping(value=3.0, tensor_norm=5.0, norm=6.0),
        Clipping(value=1e6, tensor_norm=1e6, norm=1e6),
    ],
)
def test_gradients_are_clipped_as_a_plain_loop_clips_them(bounds: Clipping) -> None:
    net = a_net()
    before = [each.grad.numpy().copy() for each in net.parameters() if each.grad is not None]
    bounds.apply(net)
    after = [each.grad.numpy() for each in net.parameters() if each.grad is not None]
    assert len(after) == 4  # what has no gradient gets none
    for found, wanted in zip(after, clipped(before, bounds), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=0)


def test_nothing_to_clip_is_no_fault() -> None:
    net = nn.Linear(2, 2)
    Clipping(1.0, 1.0, 1.0).apply(net)
    assert [each.grad for each in net.parameters()] == [None, None]


def updated(folder: Path, stage: dict[str, Any], **changes: Any) -> Training:
    """A training after its one update of plain gradient descent at the rate 1."""
    plain: dict[str, Any] = {"clip_norm": None, "augment": [], "validation": None}
    budget = {**plain, "optimizer": {"name": "sgd", "lr": 1.0}}
    each = training(folder, **{**budget, "stages": [{**STAGE, **stage}], **changes})
    begin_stage(each, 0).advance(Progress())
    return each


@pytest.mark.parametrize("where", ["budget", "stage"])
@pytest.mark.parametrize(("key", "bound"), [("clip_value", 0.01), ("clip_tensor_norm", 0.1)])
def test_an_update_moves_by_the_clipped_gradient(tmp_path: Path, where: str, key: str, bound: float) -> None:
    """Whether the budget or the stage says so; what a stage says goes before."""
    start = weights(training(tmp_path / "start"))
    free = weights(updated(tmp_path / "free", {}))
    inside = {key: bound} if where == "stage" else {}
    budget = {key: 77.0 if where == "stage" else bound}
    method = updated(tmp_path / "clipped", inside, **budget).method
    found, names = method.state_dict(), [name for name, each in method.named_parameters() if each.requires_grad]
    bounds = Clipping(**{key.removeprefix("clip_"): bound})
    moved = [(start[name] - free[name]).double().numpy() for name in names]
    assert any(not np.allclose(one, other) for one, other in zip(moved, clipped(moved, bounds), strict=True))
    for name, wanted in zip(names, clipped(moved, bounds), strict=True):
        np.testing.assert_allclose((start[name] - found[name]).numpy(), wanted, rtol=1e-3, atol=1e-6)


def test_weight_decay_of_matrices_leaves_vectors_and_numbers_alone(tmp_path: Path) -> None:
    """At the rate 1 a step without momentum takes decay x weight more from what is decayed, nothing from the rest."""
    settings = {"name": "sgd", "lr": 1.0}
    start = dict(training(tmp_path / "start").method.named_parameters())
    plain = weights(updated(tmp_path / "plain", {}, optimizer=settings))
    decay = {**settings, "weight_decay": 0.1, "weight_decay_of": "matrices"}
    found = weights(updated(tmp_path / "decayed", {}, optimizer=decay))
    assert {each.dim() > 1 for each in start.values()} == {True, False}
    for name, before in start.items():
        taken = 0.1 * before.detach() if before.dim() > 1 and before.requires_grad else torch.zeros_like(before)
        torch.testing.assert_close(plain[name] - found[name], taken, rtol=1e-3, atol=1e-6)


def test_moments_of_groups_survive_a_checkpoint(tmp_path: Path) -> None:
    """Parameters that are decayed and others are two groups of the optimiser, whose moments are saved by number."""
    optimizer = {"lr": 1e-2, "weight_decay": 0.1, "weight_decay_of": "matrices"}
    each = training(tmp_path, optimizer=optimizer, stages=[{**STAGE, "episodes": 8}])
    one, progress = begin_stage(each, 0), Progress()
    one.advance(progress)
    other = begin_stage(each, 0, one.tensors())
    for key, tensor in one.tensors().items():
        assert torch.equal(tensor, other.tensors()[key]), key


def test_recipes_without_these_keys_have_the_hashes_that_they_had() -> None:
    budget = {"stages": [{"name": "all", "episodes": 8}], "clip_norm": 5.0, "optimizer": {"weight_decay": 1e-5}}
    plain = budget_hash(Budget.model_validate(budget))
    assert plain == "23de4c3a709d57721fabdd1d5ce86c7b74a43cc46765f54722fccf47406928e2"
    for key, value in {"clip_value": 10.0, "clip_tensor_norm": 5.0}.items():
        assert budget_hash(Budget.model_validate({**budget, key: None})) == plain
        assert budget_hash(Budget.model_validate({**budget, key: value})) != plain
