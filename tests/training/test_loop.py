"""Training: exact resume, stages, model selection, limits, and errors that keep what was made."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.score import metrics
from harness.method.interface import Feedback, Method, Task
from harness.method.registry import build_method
from harness.testing import tiny_dataset
from harness.training.frozen_features import FrozenFeatures
from harness.training.interface import Batch, Trainable
from harness.training.loop import train
from harness.training.recipe import Optimizer, Stage
from harness.training.stages import RunningStage, learning_rate
from harness.training.state import Limits, Progress, Training
from harness.util.errors import RunError, UserError
from harness.util.tensor_files import load_tensors
from methods.cl_lstm import CLLSTM
from methods.opn import OPN
from methods.transformer import Transformer
from tests.helpers.plans import of_kind
from tests.helpers.training import STAGES, assert_same, interrupting, training, weights

UPDATES = 3 + 3 + 4 + 6


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.6}], ids=["plain", "averaged"])
def test_interrupted_at_any_update_it_ends_with_the_same_bits(changes: dict[str, Any], tmp_path: Path) -> None:
    """Within each stage and at each border between stages, with and without time for periodic saves."""
    whole = training(tmp_path / "whole", **changes)
    whole.checkpoint.parent.mkdir()
    done = train(whole)
    assert done.updates == UPDATES
    for at in range(1, UPDATES):
        folder = tmp_path / str(at)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            train(training(folder, limits=Limits(checkpoint_seconds=1e9), **changes), interrupting(at))
        resumed = training(folder, **changes)
        progress = train(resumed)
        assert_same(weights(resumed), weights(whole))
        assert (progress.updates, progress.best, progress.best_episodes) == (
            done.updates,
            done.best,
            done.best_episodes,
        )
        assert [each["score"] for each in progress.history] == [each["score"] for each in done.history]


@pytest.mark.slow
def test_killed_outright_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at an arbitrary moment after the fourth update; the resumed run equals the undisturbed one."""
    whole = training(tmp_path / "whole")
    whole.checkpoint.parent.mkdir()
    train(whole)
    folder = tmp_path / "killed"
    folder.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.training", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 4:
            break
    child.kill()
    child.wait()
    resumed = training(folder)
    assert resumed.checkpoint.is_file()
    train(resumed)
    assert_same(weights(resumed), weights(whole))


def test_a_finished_training_is_not_trained_on(tmp_path: Path) -> None:
    first = training(tmp_path)
    train(first)
    again = training(tmp_path)
    updates: list[int] = []
    train(again, lambda progress, *_: updates.append(progress.updates))
    assert updates == []
    assert_same(weights(again), weights(first))


@pytest.mark.slow
def test_a_run_is_a_function_of_its_seed_and_nothing_else(tmp_path: Path) -> None:
    results = []
    for name, seed, elsewhere in (("a", 0, 11), ("b", 0, 12), ("c", 1, 13)):
        (tmp_path / name).mkdir()
        torch.manual_seed(elsewhere)
        np.random.seed(elsewhere)
        each = training(tmp_path / name, seed)
        train(each)
        results.append(weights(each))
    assert_same(results[0], results[1])
    assert not torch.equal(results[0]["classify.weight"], results[2]["classify.weight"])


def test_training_leaves_global_random_state_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state().clone(), random.getstate(), np.random.get_state()[1].copy()
    train(training(tmp_path))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


def test_the_weights_kept_are_those_best_on_validation_classes(tmp_path: Path) -> None:
    each = training(tmp_path)
    progress = train(each)
    scores = evaluate(each.method, each.source, each.protocol, "validation", 6)
    assert metrics(each.protocol, scores)["accuracy"][0] == progress.best
    assert progress.best == max(entry["score"] for entry in progress.history)
    # Images of the objective on classes count too, but are never followed by a look at the protocol.
    assert all(entry["episodes"] > 12 for entry in progress.history)


def test_training_and_selection_never_touch_the_test_split(tmp_path: Path) -> None:
    each = training(tmp_path)
    table = each.source.dataset.tables["test"]
    each.source.dataset.tables["test"] = None  # type: ignore[assignment]
    train(each)
    each.source.dataset.tables["test"] = table
    assert each.checkpoint.is_file()


def test_stages_follow_each_other_with_their_own_episodes(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    train(
        training(tmp_path),
        lambda progress, each, event: (
            seen.append((each.budget.stages[progress.stage].name, progress.stage_episodes))
            if event == "update"
            else None
        ),
    )
    assert seen[:3] == [("classes", 4), ("classes", 8), ("classes", 12)]
    assert seen[3:6] == [("head", 2), ("head", 4), ("head", 6)]
    assert seen[6:10] == [("2 ways", 2), ("2 ways", 4), ("2 ways", 6), ("2 ways", 8)]
    assert seen[-1] == ("the protocol", 12)


@pytest.mark.slow
def test_a_stage_ends_early_once_its_loss_is_low(tmp_path: Path) -> None:
    stages = [{**STAGES[2], "episodes": 400, "until_loss": 100.0}, STAGES[3]]
    progress = train(training(tmp_path, stages=stages))
    # 0.98 ** 35 is the first power below one half: so many updates must be in the smoothed loss.
    assert progress.updates == 35 + 6


def test_learning_rates_follow_the_schedule() -> None:
    stage = Stage(name="s", episodes=100, schedule="cosine", warmup=4)
    optimizer = Optimizer(lr=0.1)
    assert learning_rate(stage, optimizer, 0, 10) == pytest.approx(0.1 / 4)
    assert learning_rate(stage, optimizer, 50, 10) == pytest.approx(0.05)
    assert learning_rate(stage, optimizer, 90, 10) == pytest.approx(0.05 * (1 + math.cos(0.9 * math.pi)))
    assert learning_rate(Stage(name="s", episodes=1, lr=3.0), optimizer, 0, 1) == 3.0


class Diverging(Trainable, Method):
    """Its loss is not a number from the fourth call on."""

    def __init__(self, inner: Method) -> None:
        super().__init__(inner.task)
        self.inner, self.calls = inner, 0

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return self.inner.rollout(x, feedback)

    def start(self, episodes: int) -> Any:
        return self.inner.start(episodes)

    def observe(self, state: Any, feedback: Feedback) -> Any:
        return self.inner.observe(state, feedback)

    def predict(self, state: Any, x: Tensor) -> tuple[Tensor, Any]:
        return self.inner.predict(state, x)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        self.calls += 1
        return super().loss(logits, batch) * (float("nan") if self.calls > 3 else 1.0)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    each = training(tmp_path, stages=STAGES[3:])
    each = replace(each, method=Diverging(each.method))
    with pytest.raises(RunError, match=r"nan at update 3 .*last good checkpoint .*lower lr"):
        train(each)
    tensors, header = load_tensors(each.checkpoint)
    assert header["progress"]["updates"] == 3
    assert all(tensor.isfinite().all() for tensor in tensors.values())


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are read late, as on a GPU."""
    monkeypatch.setattr(RunningStage, "reads_late", property(lambda _: True))


def test_losses_that_are_read_late_change_no_weight_and_are_all_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, losses = [], []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        each, seen = training(folder), list[float | None]()

        def note(progress: Progress, _: Training, event: str, seen: list[float | None] = seen) -> None:
            if event == "update":
                seen.append(progress.last_loss)

        progress = train(each, note)
        ends.append((weights(each), progress.smoothed, progress.last_loss, progress.updates))
        losses.append(seen)
        monkeypatch.setattr(RunningStage, "reads_late", property(lambda _: True))
    assert_same(ends[0][0], ends[1][0])
    assert ends[0][1:] == ends[1][1:]
    assert losses[1][1:3] == losses[0][:2]
    assert losses[1] != losses[0]


@pytest.mark.usefixtures("late")
def test_with_late_losses_it_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = training(tmp_path, limits=Limits(checkpoint_seconds=1e9))
    done = train(whole)
    (tmp_path / "cut").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(training(tmp_path / "cut", limits=Limits(checkpoint_seconds=1e9)), interrupting(7))
    resumed = training(tmp_path / "cut")
    assert train(resumed).smoothed == done.smoothed
    assert_same(weights(resumed), weights(whole))


@pytest.mark.usefixtures("late")
def test_a_late_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    each = training(tmp_path, stages=STAGES[3:])
    with pytest.raises(RunError, match=r"nan at update 3 .*last good checkpoint .*lower lr"):
        train(replace(each, method=Diverging(each.method)))
    tensors, header = load_tensors(each.checkpoint)
    assert header["progress"]["updates"] == 3
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_stage_cannot_move_the_delay_of_a_method_that_is_told_it(tmp_path: Path) -> None:
    each = training(tmp_path, stages=[{"name": "late", "episodes": 4, "episode": {"label_delay": 3}}])
    each = replace(each, method=OPN(Task(3, (3, 32, 32), "online_few_shot", 1), channels=2))
    with pytest.raises(UserError, match="'late' changes the label delay, but OPN is told"):
        train(each)


@pytest.mark.parametrize(
    ("protocol", "told", "kind", "episode", "said"),
    [
        (
            of_kind("n_way_k_shot", "objects", ways=3, shots=1, queries=2),
            None,
            "online_few_shot",
            {"ways": 3, "presentations": 3},
            "'other' of the kind online_few_shot, labels come 1 step late, but OPN is told of no delay",
        ),
        (
            of_kind("delayed_label", "objects", ways=3, presentations=3, label_delay=3),
            3,
            "continual",
            {"subtasks": 3, "shots": 2, "queries": 1},
            r"'other' of the kind continual, labels come 1 step late, but OPN is told the delay of the protocol \(3\)",
        ),
    ],
)
def test_a_stage_of_another_kind_cannot_move_it_either_and_nothing_is_trained_before(
    tmp_path: Path, protocol: Any, told: int | None, kind: str, episode: dict[str, int], said: str
) -> None:
    stages = [{"name": "first", "episodes": 4}, {"name": "other", "episodes": 4, "kind": kind, "episode": episode}]
    method = OPN(Task(3, (3, 32, 32), protocol.task_kind, told), channels=2)
    each = replace(training(tmp_path, stages=stages), method=method, protocol=protocol)
    with pytest.raises(UserError, match=said):
        train(each)
    assert not each.checkpoint.exists()
    support = {"name": "other", "episodes": 4, "kind": "n_way_k_shot", "episode": {"ways": 3, "shots": 1, "queries": 1}}
    train(replace(training(tmp_path, stages=[support], validation=None), method=method, protocol=protocol))


def test_normalising_by_a_single_value_is_told_with_what_to_do(tmp_path: Path) -> None:
    stages = [{"name": "classes", "objective": "classes", "episodes": 4, "batch": 1}]
    net = build_method(Transformer, Task(3, (3, 32, 32), "online_few_shot", 1), {"channels": 4, "width": 16}, 0)
    with pytest.raises(UserError, match=r"'classes': Transformer normalises by .* a single value; .*\(batch is 1\)"):
        train(replace(training(tmp_path, stages=stages), method=net))


@pytest.mark.slow
def test_an_objective_on_classes_learns_the_training_classes(tmp_path: Path) -> None:
    losses: list[float | None] = []
    stages = [{"name": "classes", "objective": "classes", "episodes": 1600, "batch": 16}]
    train(
        training(tmp_path, stages=stages, augment=[], limits=Limits()),
        lambda progress, _, event: losses.append(progress.loss) if event == "update" else None,
    )
    # 8 classes of 6 random images: chance is ln 8 = 2.08 nats, and only learning by heart goes below.
    assert losses[0] > 1.8
    assert losses[-1] < 1.6


def test_an_objective_on_the_head_moves_the_head_only(tmp_path: Path) -> None:
    each = training(tmp_path, stages=[STAGES[1]], validation=None)
    before = weights(each)
    train(each)
    after = weights(each)
    moved = {name.split(".")[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {"lstm", "classify"}


def test_head_stages_in_a_row_share_features_that_are_as_if_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FrozenFeatures] = []

    def counted(*args: Any) -> FrozenFeatures:
        made.append(FrozenFeatures(*args))
        return made[-1]

    monkeypatch.setattr("harness.training.objective_of_stage.FrozenFeatures", counted)
    (tmp_path / "stopped").mkdir()
    heads = [{**STAGES[1], "name": name} for name in ("one", "two")]
    each = training(tmp_path, stages=[*heads, STAGES[2], {**STAGES[1], "name": "again"}], validation=None)
    train(each)
    assert len(made) == 2, "once for the two in a row, once after a stage that moved the features"

    def killed(progress: Progress, _: Training, event: str) -> None:
        if event == "saved" and progress.updates == 4:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(training(tmp_path / "stopped", **each_budget(each)), killed)
    resumed = training(tmp_path / "stopped", **each_budget(each))
    train(resumed)
    assert len(made) == 5, "a resumed training computes them anew"
    for name, tensor in weights(each).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def each_budget(each: Training) -> dict[str, Any]:
    """What `training` needs to make the same budget again."""
    return {"stages": [stage.model_dump() for stage in each.budget.stages], "validation": None}


def test_frozen_features_are_those_of_the_same_episodes_images(tmp_path: Path) -> None:
    each = training(tmp_path)
    source = EpisodeSource(tiny_dataset("omniglot", classes=5, images=6, turned=True))
    method = build_method(CLLSTM, Task(3, (1, 28, 28), "online_few_shot"), {"channels": 4, "lstm": 8}, 0).eval()
    frozen = FrozenFeatures(method, method.memoryless_features(), source, "train").episodes(each.protocol, 7, [3, 0])
    shown = source.episodes(each.protocol, "train", 7, [3, 0])
    with torch.no_grad():
        expected = torch.stack([method.memoryless_features().net(x) for x in shown.x])
    torch.testing.assert_close(frozen.x, expected)
    assert torch.equal(frozen.target, shown.target)


@pytest.mark.parametrize("objective", ["classes", "head", "memoryless"])
def test_an_objective_that_the_method_cannot_have_is_refused(tmp_path: Path, objective: str) -> None:
    each = training(tmp_path, stages=[{"name": "odd", "objective": objective, "episodes": 4}])
    each = replace(each, method=Diverging(each.method))
    with pytest.raises(UserError, match=rf"stage 'odd' has the objective '{objective}', but Diverging has no"):
        train(each)
