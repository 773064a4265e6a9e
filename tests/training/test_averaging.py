"""The moving average of weights: what it is, who sees it, and that training goes on without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from harness.evaluation.evaluate import evaluate
from harness.evaluation.score import metrics
from harness.training import loop
from harness.training.loop import train
from harness.training.recipe import Budget, Stage
from harness.training.selection import Selection
from harness.training.state import Limits, Progress, Training
from harness.util.tensor_files import load_tensors, without_prefix
from tests.helpers.training import STAGES, assert_same, interrupting, training, weights

DECAY = 0.6


class Watched:
    """The weights after each update of a training, in order, and those with which each stage was left."""

    def __init__(self) -> None:
        self.updates: list[dict[str, Tensor]] = []
        self.ends: list[tuple[int, dict[str, Tensor]]] = []

    def __call__(self, _: Progress, each: Training, event: str) -> None:
        if event == "update":
            self.updates.append(weights(each))
        elif event == "stage":
            self.ends.append((len(self.updates), weights(each)))


def expected_average(after: list[dict[str, Tensor]], decay: float) -> dict[str, Tensor]:
    """By its definition as one weighted sum: a plain mean while that forgets less, exponential from there."""
    shares = torch.tensor([max(1 / number, 1 - decay) for number in range(1, len(after) + 1)], dtype=torch.float64)
    kept = torch.cat([1 - shares[1:], torch.ones(1, dtype=torch.float64)]).flip(0).cumprod(0).flip(0)
    # What update n adds is kept by all later ones.
    kept = torch.cat([kept[:-1], torch.ones(1, dtype=torch.float64)])
    found = {}
    for name, last in after[-1].items():
        if last.is_floating_point():
            stacked = torch.stack([each[name].double() for each in after])
            found[name] = torch.einsum("n,n...->...", shares * kept, stacked)
        else:
            found[name] = last
    return found


@pytest.mark.parametrize("decay", [0.3, DECAY, 0.99])
def test_each_stage_on_episodes_or_the_head_ends_with_the_average_of_its_own_updates(
    decay: float, tmp_path: Path
) -> None:
    each, watched = training(tmp_path, ema_decay=decay, validation=None), Watched()
    train(each, watched)
    begins = [0] + [number for number, _ in watched.ends]
    assert begins == [0, 3, 6, 10, 16]
    assert_same(watched.ends[0][1], watched.updates[2])  # classes: as they are
    for begin, (end, left) in zip(begins[1:], watched.ends[1:], strict=False):
        for name, wanted in expected_average(watched.updates[begin:end], decay).items():
            torch.testing.assert_close(left[name], wanted.to(left[name].dtype), rtol=1e-5, atol=1e-7)
    assert_same(weights(each), watched.ends[-1][1])


def test_where_nothing_of_the_past_is_kept_it_is_training_without_an_average(tmp_path: Path) -> None:
    results = []
    for decay in (None, 1e-12):
        (tmp_path / str(decay)).mkdir()
        each = training(tmp_path / str(decay), ema_decay=decay)
        progress = train(each)
        results.append((weights(each), [look["score"] for look in progress.history], progress.best))
    assert_same(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


def test_training_itself_never_sees_the_average_of_its_stage(tmp_path: Path) -> None:
    """Of one stage, looks at validation among its updates included."""
    stages = [STAGES[-1]]
    found = []
    for decay in (None, DECAY):
        (tmp_path / str(decay)).mkdir()
        watched, looks = Watched(), {"every": 4, "episodes": 2}
        train(training(tmp_path / str(decay), stages=stages, validation=looks, ema_decay=decay), watched)
        found.append(watched.updates)
    for ours, theirs in zip(*found, strict=True):
        assert_same(ours, theirs)


def test_validation_is_of_the_average_which_is_then_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages, watched = [STAGES[-1]], Watched()
    looked: list[dict[str, Tensor]] = []
    look = Selection.look

    def noted(self: Selection, *args: Any) -> None:
        looked.append(weights(self.training))
        look(self, *args)

    monkeypatch.setattr(loop.Selection, "look", noted)
    each = training(tmp_path, stages=stages, validation={"every": 4, "episodes": 6}, ema_decay=DECAY)
    progress = train(each, watched)
    assert len(looked) == len(progress.history) == 3
    for number, seen in zip((2, 4, 6), looked, strict=True):
        for name, wanted in expected_average(watched.updates[:number], DECAY).items():
            torch.testing.assert_close(seen[name], wanted.to(seen[name].dtype), rtol=1e-5, atol=1e-7)
    best = [look["episodes"] for look in progress.history].index(progress.best_episodes)
    assert_same(weights(each), looked[best])
    scores = evaluate(each.method, each.source, each.protocol, "validation", 6)
    assert metrics(each.protocol, scores)["accuracy"][0] == progress.best


@pytest.mark.parametrize("validation", [None, {"every": 8, "episodes": 6}], ids=["none", "validation"])
def test_a_training_that_is_cut_ends_with_the_average_and_goes_on_with_its_own_weights(
    validation: dict[str, int] | None, tmp_path: Path
) -> None:
    for folder in (cut := tmp_path / "cut", tmp_path / "whole"):
        folder.mkdir()
    settings: dict[str, Any] = {"ema_decay": DECAY, "validation": validation}
    short, watched = training(cut, limits=Limits(episodes=32), **settings), Watched()
    assert train(short, watched).cut == "episodes=32"
    stored = load_tensors(short.checkpoint)[0]
    assert_same(without_prefix("method", stored), watched.updates[-1])
    average = without_prefix("average", stored)
    assert not torch.equal(average["classify.weight"], watched.updates[-1]["classify.weight"])
    if validation is None:
        assert_same(weights(short), average)
    again = training(cut, limits=Limits(episodes=32), **settings)
    train(again)
    assert_same(weights(again), weights(short))
    whole, on = training(tmp_path / "whole", **settings), training(cut, **settings)
    assert train(on).best == train(whole).best
    assert_same(weights(on), weights(whole))
    assert_same(load_tensors(on.checkpoint)[0], load_tensors(whole.checkpoint)[0])


def test_what_is_saved_while_validation_is_scored_are_the_weights_that_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a look among the updates of a stage, and on from there, to the same bits."""
    for folder in (stopped := tmp_path / "stopped", tmp_path / "whole"):
        folder.mkdir()
    whole = training(tmp_path / "whole", ema_decay=DECAY)
    train(whole)
    look = Selection.look

    def interrupted(self: Selection, progress: Progress, scored: Any = None) -> None:
        if 0 < progress.stage_episodes < STAGES[progress.stage]["episodes"]:
            interrupting(progress.updates)(progress, self.training, "update")
        look(self, progress, scored)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Selection, "look", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(training(stopped, ema_decay=DECAY))
    again, watched = training(stopped, ema_decay=DECAY), Watched()
    train(again, watched)
    assert len(watched.updates) < 16
    assert_same(weights(again), weights(whole))
    assert_same(load_tensors(again.checkpoint)[0], load_tensors(whole.checkpoint)[0])


@pytest.mark.parametrize("decay", [0, 1, -0.5, 1.5, "0.9", float("nan")])
def test_a_decay_is_between_nought_and_one(decay: Any) -> None:
    with pytest.raises(ValidationError, match="ema_decay"):
        Budget.model_validate({"ema_decay": decay})


@pytest.mark.parametrize("objective", ["classes", "pretext"])
def test_a_stage_that_has_no_average_is_told_so(objective: str) -> None:
    with pytest.raises(ValidationError, match="ema_decay is for stages with the objective 'episodes'"):
        Stage.model_validate({"name": "a", "objective": objective, "episodes": 4, "ema_decay": 0.9})
