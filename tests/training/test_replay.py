"""Updates that are replayed train as those that are computed: to the last bit, with a recorder of the CPU's operations.

What such a recorder repeats is what a CUDA graph does: it takes nothing anew from the host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.training import replay
from harness.training.loop import train
from harness.training.objectives import Drawn, Loss
from harness.training.replay import Replays
from harness.training.stages import RunningStage, begin_stage
from harness.training.state import Progress
from tests.helpers.built_in import TRAINED
from tests.helpers.device_runs import CPU, training_on
from tests.helpers.recorded import recorder, with_replays

WAITS = ("ntm",)
"""Methods whose updates read something from the device, and are computed: ntm on a CPU alone, in `F.one_hot`."""

EACH = 5
"""Updates of a stage at least: the third one is recorded."""

Weights = dict[str, torch.Tensor]


def trained(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, record: replay.Recorder | None, **changes: Any
) -> tuple[Weights, Progress, list[Replays]]:
    """The weights that some updates end with; with a recorder, they are replayed as on a GPU."""
    folder.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr(Replays, "release", lambda self: None)  # so that what was recorded can be looked at
        made = with_replays(patched, record) if record else []
        training = training_on(name, CPU, folder, EACH, **changes)
        progress = train(training)
    return training.method.state_dict(), progress, made


def assert_same(one: Weights, other: Weights) -> None:
    """Two trainings came to the same weights and buffers."""
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_replayed_updates_train_to_the_same_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed, progress, _ = trained(name, tmp_path / "computed", monkeypatch, None)
    replayed, other, made = trained(name, tmp_path / "replayed", monkeypatch, recorder)
    assert_same(computed, replayed)
    assert (progress.smoothed, progress.updates) == (other.smoothed, other.updates)
    used = [sum(each.used for each in replays.records.values() if each) for replays in made]
    assert min(used) >= EACH - 3 if name not in WAITS else used[-1] == 0


def test_the_losses_of_replayed_updates_are_read_at_once_where_a_stage_ends_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[list[float | None]] = []
    for name, record in (("computed", None), ("replayed", recorder)):
        (tmp_path / name).mkdir()
        with monkeypatch.context() as patched:
            made = with_replays(patched, record) if record else []
            training = training_on("protonet", CPU, tmp_path / name, EACH)
            stages = [stage.model_copy(update={"until_loss": 1e-6}) for stage in training.budget.stages]
            budget = training.budget.model_copy(update={"stages": stages})
            found: list[float | None] = []
            train(replace(training, budget=budget), _losses_into(found))
        losses.append(found)
    assert losses[0] == losses[1]
    assert None not in losses[0]
    assert len(losses[0]) > EACH
    assert made


def _losses_into(found: list[float | None]) -> Callable[[Progress, Any, str], None]:
    """Keeps the loss of each update as it is known right after it."""

    def report(progress: Progress, _: Any, event: str) -> None:
        if event == "update":
            found.append(progress.last_loss)

    return report


@pytest.mark.parametrize(
    "bound",
    [{"clip_norm": 0.01}, {"clip_value": 1e-4}, {"clip_tensor_norm": 0.01}],
    ids=lambda bound: next(iter(bound)),
)
def test_gradients_are_clipped_in_what_is_recorded(
    bound: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, _, _ = trained("protonet", tmp_path / "free", monkeypatch, recorder)
    computed, _, _ = trained("protonet", tmp_path / "computed", monkeypatch, None, **bound)
    replayed, _, _ = trained("protonet", tmp_path / "replayed", monkeypatch, recorder, **bound)
    assert_same(computed, replayed)
    assert not all(torch.equal(free[key], replayed[key]) for key in free)


def empty(work: Callable[[], Loss]) -> tuple[Loss, Callable[[], None]]:
    """A record of nothing: what was computed meanwhile stays where it is."""
    return work(), lambda: None


def half(work: Callable[[], Loss]) -> tuple[Loss, Callable[[], None]]:
    """Repeats the first half of the operations, with the loss, but without its gradient."""
    loss, again = recorder(work)
    operations = again.__self__  # type: ignore[attr-defined]
    del operations.done[len(operations.done) // 2 :]
    return loss, again


def broken(work: Callable[[], Loss]) -> tuple[Loss, Callable[[], None]]:
    """Fails as a driver does, after half the work."""
    work()
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (empty, "another gradient came of it"),
        (half, "another gradient came of it"),
        (broken, "CUDA error: operation not permitted when stream is capturing"),
    ],
)
def test_what_cannot_be_replayed_is_computed(
    record: replay.Recorder, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    computed, _, _ = trained("protonet", tmp_path / "computed", monkeypatch, None)
    with caplog.at_level(logging.WARNING):
        replayed, _, made = trained("protonet", tmp_path / "replayed", monkeypatch, record)
    assert_same(computed, replayed)
    assert set(made[-1].records.values()) == {None}
    said = [each.getMessage() for each in caplog.records]
    assert said[-1] == f"updates are computed one operation after another: to replay them failed ({why})"


def stage_of(name: str, folder: Path) -> RunningStage:
    """The last stage of a method's recipe."""
    training = training_on(name, CPU, folder)
    return begin_stage(training, len(training.budget.stages) - 1)


def test_what_changes_with_time_is_noticed_and_computed(tmp_path: Path) -> None:
    """A loss that a method scales by the number of its calls, which no record knows."""
    stage, calls = stage_of("protonet", tmp_path), 0

    def work(drawn: Drawn) -> Loss:
        nonlocal calls
        calls += 1
        loss = stage.recorded(drawn)
        return replace(loss, reported=loss.reported * (1.0 if calls < 5 else 0.5))

    replays = Replays(work, stage.objective.trained, recorder)
    drawn = stage.objective.drawn(np.arange(2))
    losses = [replays.loss(drawn, lambda: None).reported.item() for _ in range(14)]
    assert losses[:11] == [losses[0]] * 11  # the third is recorded, and the next eight are replays of it
    assert losses[11:] == [losses[0] / 2] * 3
    assert list(replays.records.values()) == [None]


def test_memory_is_given_back_and_updates_are_recorded_again(tmp_path: Path) -> None:
    stage = stage_of("protonet", tmp_path)
    replays = Replays(stage.recorded, stage.objective.trained, recorder)
    drawn = stage.objective.drawn(np.arange(2))
    first = [replays.loss(drawn, lambda: None).reported for _ in range(4)]
    assert list(replays.records.values()) != []
    replays.release()
    assert replays.records == {}
    again = [replays.loss(drawn, lambda: None).reported for _ in range(2)]
    assert len({each.item() for each in (*first, *again)}) == 1
    (record,) = replays.records.values()
    assert record is not None
    assert record.used == 1


def test_batches_of_another_shape_are_recorded_apart(tmp_path: Path) -> None:
    stage = stage_of("protonet", tmp_path)
    training = stage.training
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
