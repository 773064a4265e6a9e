"""Limits of a training: where it ends, how it goes on under others, and what it knows of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.runs.resolve import Request, limits_of
from harness.training import loop, selection
from harness.training.checkpoint import progress_in
from harness.training.loop import train
from harness.training.recipe import Budget
from harness.training.state import Limits, Progress, Training
from harness.util.tensor_files import load_tensors
from tests.helpers.training import assert_same, interrupting, training, weights


def test_limits_cut_a_training_short(tmp_path: Path) -> None:
    assert train(training(tmp_path, limits=Limits(episodes=15))).episodes == 16
    (tmp_path / "time").mkdir()
    assert train(training(tmp_path / "time", limits=Limits(seconds=1e-9))).updates == 1


def test_a_checkpoint_with_more_episodes_than_are_asked_for_is_trained_no_further(tmp_path: Path) -> None:
    long = training(tmp_path, limits=Limits(episodes=24))
    train(long)
    again = training(tmp_path, limits=Limits(episodes=15))
    progress = train(again)
    assert (progress.episodes, progress.updates) == (24, 9)
    assert_same(weights(again), weights(long))


@pytest.mark.parametrize("episodes", [24, 36])
def test_what_a_limit_ended_goes_on_under_a_higher_one_to_the_same_weights(episodes: int, tmp_path: Path) -> None:
    for folder in (cut := tmp_path / "cut", tmp_path / "whole"):
        folder.mkdir()
    assert train(training(cut, limits=Limits(episodes=episodes))).cut
    whole, again = training(tmp_path / "whole"), training(cut)
    done, progress = train(whole), train(again)
    assert (progress.updates, progress.cut) == (done.updates, "")
    assert (progress.best, progress.best_episodes) == (done.best, done.best_episodes)
    assert [each["score"] for each in progress.history] == [each["score"] for each in done.history]
    assert_same(weights(again), weights(whole))
    assert_same(load_tensors(again.checkpoint)[0], load_tensors(whole.checkpoint)[0])


@pytest.mark.parametrize("score", [0.0, 100.0])
def test_the_look_at_a_cut_counts_for_a_training_that_ends_there_alone(
    score: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (cut := tmp_path / "cut", tmp_path / "whole"):
        folder.mkdir()
    short = training(cut, limits=Limits(episodes=14))
    with monkeypatch.context() as looked:
        looked.setattr(selection, "metrics", lambda *_: {"accuracy": (score, None, 6)})
        ended = train(short)
    assert (ended.best, ended.cut) == (score, "episodes=14")
    stored = progress_in(short.checkpoint)
    assert (stored.best, stored.at_cut, stored.score) == (None, score, score)
    chosen = weights(short)
    again = training(cut, limits=Limits(episodes=10))
    assert train(again).cut == "episodes=14"
    assert_same(weights(again), chosen)
    whole, on = training(tmp_path / "whole"), training(cut)
    assert train(on).best == train(whole).best
    assert_same(weights(on), weights(whole))


def test_what_was_cut_before_its_validation_is_validated_and_trained_no_further(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(training(tmp_path), interrupting(4))
    before = progress_in(tmp_path / "checkpoint.safetensors")
    progress = train(training(tmp_path, limits=Limits(episodes=before.episodes)))
    assert progress.updates == before.updates == 4
    assert progress.done
    assert [each["episodes"] for each in progress.history][-1] == before.episodes


@pytest.mark.parametrize("limits", [Limits(episodes=2), Limits(seconds=1e-9), Limits(2, 1e-9)])
def test_what_was_past_its_limits_already_is_cut_by_its_episodes(limits: Limits, tmp_path: Path) -> None:
    """No training under these limits ends there, but one of so many episodes does, with the same weights."""
    for folder in (cut := tmp_path / "cut", tmp_path / "again"):
        folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(training(cut), interrupting(4))
    before = progress_in(cut / "checkpoint.safetensors")
    ended = training(cut, limits=limits)
    progress = train(ended)
    assert (progress.updates, progress.cut) == (4, f"episodes={before.episodes}")
    again = training(tmp_path / "again", limits=Limits(before.episodes))
    assert train(again).cut == progress.cut
    assert_same(weights(again), weights(ended))


def test_a_training_knows_the_devices_that_made_its_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(loop, "name_of", lambda _: "NVIDIA H200")
        train(training(tmp_path, limits=Limits(episodes=14)))
    assert progress_in(tmp_path / "checkpoint.safetensors").devices == ["NVIDIA H200"]
    assert train(training(tmp_path, limits=Limits(episodes=14))).devices == ["NVIDIA H200"]
    assert train(training(tmp_path)).devices == ["NVIDIA H200", "cpu"]


def test_every_stage_has_all_its_updates_however_far_those_before_went_beyond(tmp_path: Path) -> None:
    """By the batch of all stages, by a stage's own, and up to a limit that only the last update reaches."""
    early, late = ({"name": name, "episodes": 8, "objective": "classes"} for name in ("early", "late"))
    for number, (stages, batch, updates) in enumerate(
        [([early, late], 6, (2, 2)), ([{**early, "batch": 16}, {**late, "batch": 2}], 2, (1, 4))]
    ):
        (folder := tmp_path / str(number)).mkdir()
        short = training(folder, stages=stages, batch=batch, validation=None)
        made: list[int] = []

        def report(now: Progress, _: Training, event: str, made: list[int] = made) -> None:
            made += [now.stage] if event == "update" else []

        progress = train(short, report)
        assert (made.count(0), made.count(1)) == updates
        assert progress.episodes == short.budget.episodes
        assert not progress.cut


@pytest.mark.parametrize(("asked", "limit"), [(18, 18), (19, None), (24, None), (30, None)])
def test_a_limit_that_the_last_update_reaches_cuts_nothing(asked: int, limit: int | None) -> None:
    budget = Budget.model_validate({"batch": 6, "stages": [{"name": "one", "episodes": 20}]})
    request = Request("omniglot_5way_online", "opn", episodes=asked)
    assert limits_of(request, budget).episodes == limit
