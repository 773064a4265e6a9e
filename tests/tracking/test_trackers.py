"""Callbacks see every update, validation, stage and the end; trackers get the numbers of the log of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import harness as h
from harness import cli
from harness.tracking import tracker
from tests.helpers.runs import UPDATES, run_folder, words, written


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    monkeypatch.chdir(written(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    return tmp_path


class Noting(h.Callback):
    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        self.calls.append(("start", identity["seed"]))

    def on_update(self, event: h.Event) -> None:
        self.calls.append(("update", event))

    def on_validation(self, event: h.Event) -> None:
        self.calls.append(("validation", event))

    def on_stage(self, event: h.Event) -> None:
        self.calls.append(("stage", event))

    def on_end(self, record: h.Record | None) -> None:
        self.calls.append(("end", record))


def run(**more: Any) -> h.Result:
    recipe: dict[str, Any] = {"recipe": "cl_lstm.yaml", "budget": "smoke", "data": "stand-in"}
    return h.run("late.yaml", "cl_lstm", board=False, quiet=True, **recipe, **more)


def log() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder() / "log.jsonl").read_text().splitlines()]


def test_a_callback_is_reported_what_the_log_says(here: Path) -> None:
    noting = Noting()
    result = run(callbacks=[noting])
    names = [name for name, _ in noting.calls]
    assert (names[0], names[-1]) == ("start", "end")
    assert names.count("update") == UPDATES
    assert names.count("stage") == 3
    assert noting.calls[-1][1] == result.record
    entries = log()
    assert ["test" if name == "end" else name for name in names[1:]] == [each["event"] for each in entries]
    for (_, event), entry in zip(noting.calls[1:-1], entries[:-1], strict=True):
        assert (event.episodes, event.loss) == (entry["episodes"], entry["last_loss"])
    accuracy = result.record.metrics["accuracy"]
    assert entries[-1]["metrics"]["accuracy"] == [accuracy.mean, accuracy.interval]
    run(callbacks=[noting])
    assert len(noting.calls) == len(entries) + 1, "a finished run calls nobody"


def test_a_run_that_fails_ends_without_a_record(here: Path) -> None:
    class Failing(Noting):
        def on_validation(self, event: h.Event) -> None:
            raise ValueError("enough")

    failing = Failing()
    with pytest.raises(ValueError, match="enough"):
        run(callbacks=[failing])
    assert failing.calls[-1] == ("end", None)
    assert [each["event"] for each in log()].count("update") > 0


def test_tensorboard_files_hold_the_numbers_of_the_log(here: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert cli.main(words("late", "--data", "stand-in", "--no-board", "--log", "tensorboard")) == 0
    found = EventAccumulator(str(run_folder() / "tensorboard"))
    found.Reload()
    updates = [each for each in log() if each["event"] == "update"]
    scalars = found.Scalars("train/loss")
    assert [each.step for each in scalars] == [each["episodes"] for each in updates]
    assert [each.value for each in scalars] == pytest.approx([each["last_loss"] for each in updates])
    assert found.Scalars("test/accuracy")[0].value == pytest.approx(log()[-1]["metrics"]["accuracy"][0])
    assert found.Scalars("validation/score")


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_other_trackers_log_offline(here: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name, reason=f"the extra {name} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(here / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (here / "mlruns").as_uri())
    assert run(log=name).record.status == "done"
    assert [each for each in here.rglob("*") if name in str(each) or "mlruns" in str(each)]


def test_a_tracker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(h.UserError, match=r"unknown tracker 'tensorbord'\. Did you mean 'tensorboard'"):
        tracker("tensorbord")
    monkeypatch.setattr("harness.tracking.find_spec", lambda name: None)
    with pytest.raises(h.UserError, match=r"pip install 'episode-harness\[wandb\]'"):
        tracker("wandb")
