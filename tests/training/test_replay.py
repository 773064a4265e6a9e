"""Updates that are replayed train as those that are computed: to the last bit, with a recorder of the CPU's operations.

What such a recorder repeats is what a CUDA graph does: it takes nothing anew from the host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.training import replay
from harness.training.loop import train
from harness.training.objectives import Loss
from harness.training.replay import Replays
from harness.training.stages import begin_stage
from harness.training.state import Progress
from tests.helpers.built_in import TRAINED
from tests.helpers.device_runs import CPU, training_on
from tests.helpers.recorded import recorder, with_replays

WAITS = ("ntm",)
"""Methods whose updates read something from the device, and are computed: ntm on a CPU alone, in `F.one_hot`."""

Weights = dict[str, torch.Tensor]


def trained(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, record: replay.Recorder | None
) -> tuple[Weights, Progress, list[Replays]]:
    """The weights that ten updates end with; with a recorder, updates are replayed as on a GPU."""
    folder.mkdir()
    with monkeypatch.context() as patched:
        made = with_replays(patched, record) if record else []
        training = training_on(name, CPU, folder)
        progress = train(training)
    return training.method.state_dict(), progress, made


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_replayed_updates_train_to_the_same_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed, progress, _ = trained(name, tmp_path / "computed", monkeypatch, None)
    replayed, other, made = trained(name, tmp_path / "replayed", monkeypatch, recorder)
    assert all(torch.equal(computed[key], replayed[key]) for key in computed)
    assert (progress.smoothed, progress.updates) == (other.smoothed, other.updates)
    records = list(made[-1].records.values())
    assert records
    assert all(each is None for each in records) == (name in WAITS)


def wrong(work: Callable[[], Loss]) -> tuple[Loss, Callable[[], None]]:
    """Repeats all but the last operations: those that give the gradient."""
    loss, again = recorder(work)
    operations = again.__self__  # type: ignore[attr-defined]
    del operations.done[-len(operations.done) // 2 :]
    operations.done.append((False, torch.ops.aten.mul_.Scalar, (loss.reported, 2.0), {}, loss.reported))
    return loss, again


def broken(work: Callable[[], Loss]) -> tuple[Loss, Callable[[], None]]:
    """Fails as a driver does, after half the work."""
    work()
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")


@pytest.mark.parametrize(
    ("record", "why"),
    [(wrong, "another gradient came of it"), (broken, "CUDA error: operation not permitted when stream is capturing")],
)
def test_what_cannot_be_replayed_is_computed(
    record: replay.Recorder, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    computed, _, _ = trained("protonet", tmp_path / "computed", monkeypatch, None)
    with caplog.at_level(logging.WARNING):
        replayed, _, made = trained("protonet", tmp_path / "replayed", monkeypatch, record)
    assert all(torch.equal(computed[key], replayed[key]) for key in computed)
    assert set(made[-1].records.values()) == {None}
    said = [each.getMessage() for each in caplog.records]
    assert said[-1] == f"updates are computed one operation after another: to replay them failed ({why})"


def test_batches_of_another_shape_are_recorded_apart(tmp_path: Path) -> None:
    training = training_on("protonet", CPU, tmp_path)
    stage = begin_stage(training, len(training.budget.stages) - 1)
    replays = Replays(stage.recorded, stage.objective.trained, recorder)

    def gradients() -> list[torch.Tensor]:
        return [each.grad.clone() for each in training.method.parameters() if each.grad is not None]

    for number, size in enumerate([4, 4, 4, 3, 4, 3, 3, 3]):
        drawn = stage.objective.drawn(np.arange(size) + 10 * number)
        found, replayed = replays.loss(drawn, lambda: None), gradients()
        assert torch.equal(found.reported, stage.recorded(drawn).reported)
        assert all(map(torch.equal, replayed, gradients()))
    assert len(replays.records) == 2
    assert None not in replays.records.values()
