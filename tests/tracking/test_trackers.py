"""Callbacks see every update, validation, stage and the end; trackers get the numbers of the log of the run."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import harness as h
from harness import cli
from harness.tracking import tracker
from harness.tracking.guarded import Guarded
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


def test_a_callback_is_given_what_the_log_says(here: Path) -> None:
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


@pytest.mark.slow
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


@pytest.fixture
def offline(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trackers write below this folder, and nowhere else."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(here / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (here / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return here


def test_wandb_keeps_a_run_on_this_machine(offline: Path) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    assert run(log="wandb").record.status == "done"
    (kept,) = offline.glob("wandb/offline-run-*/*.wandb")
    assert kept.stat().st_size > 1000


def test_trackio_has_the_numbers_of_the_log(offline: Path) -> None:
    pytest.importorskip("trackio", reason="the extra trackio is not installed")
    assert run(log="trackio").record.status == "done"
    (store,) = offline.glob("trackio/*.db")
    with contextlib.closing(sqlite3.connect(store)) as database:
        rows = [json.loads(text) for (text,) in database.execute("SELECT metrics FROM metrics ORDER BY id")]
    found = [row["train/loss"] for row in rows if "train/loss" in row]
    assert found == pytest.approx([each["last_loss"] for each in log() if each["event"] == "update"])
    assert rows[-1]["test/accuracy"] == pytest.approx(log()[-1]["metrics"]["accuracy"][0])


def test_mlflow_has_the_numbers_of_the_log(offline: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    assert run(log="mlflow").record.status == "done"
    (losses,) = offline.glob("mlruns/*/*/metrics/train/loss")
    found = [float(line.split()[1]) for line in losses.read_text().splitlines()]
    assert found == pytest.approx([each["last_loss"] for each in log() if each["event"] == "update"])
    assert list(offline.glob("mlruns/*/*/metrics/test/accuracy"))
    assert list(offline.glob("mlruns/*/*/params/options.lstm"))


class Breaking(Noting):
    """Fails at the call of this name."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        super().on_start(identity, folder)
        if self.at == "start":
            raise ConnectionError("no network\nand a long story")

    def on_update(self, event: h.Event) -> None:
        super().on_update(event)
        raise ConnectionError("the server is gone")


def test_a_tracker_that_cannot_start_is_an_error_in_a_sentence(here: Path) -> None:
    with pytest.raises(h.UserError, match=r"^mlflow cannot be logged to: ConnectionError: no network$"):
        run(callbacks=[Guarded("mlflow", Breaking("start"))])


@pytest.mark.slow
def test_a_tracker_that_fails_later_does_not_end_the_run(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    breaking = Breaking("update")
    assert run(callbacks=[Guarded("wandb", breaking)]).record.status == "done"
    assert [name for name, _ in breaking.calls].count("update") == 1
    assert caplog.text.count("wandb failed, and the run goes on without it: ConnectionError: the server is gone") == 1


def test_a_tracker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(h.UserError, match=r"unknown tracker 'tensorbord'\. Did you mean 'tensorboard'"):
        tracker("tensorbord")
    monkeypatch.setattr("harness.tracking.find_spec", lambda name: None)
    with pytest.raises(h.UserError, match=r"pip install 'episode-harness\[wandb\]'"):
        tracker("wandb")


class Writing(h.Callback):
    """Leaves a file in the run folder as it starts, and raises at the end."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        (folder / "events").write_text("mine")

    def on_end(self, record: h.Record | None) -> None:
        if self.error:
            raise self.error


def test_a_folder_that_a_callback_wrote_into_is_that_of_a_run(here: Path) -> None:
    with pytest.raises(h.UserError, match="trains nothing"):
        h.run("late.yaml", "count", data="stand-in", board=False, quiet=True, searched=3, callbacks=[Writing()])
    assert h.run("late.yaml", "count", data="stand-in", board=False, quiet=True).record.method == "count"
    with pytest.raises(h.HarnessError, match="no network"):
        run(callbacks=[Writing(), Guarded("mlflow", Breaking("start"))])
    assert run(resume=True).record.status == "done"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("the server is gone")], ids=["interrupt", "error"])
def test_a_finished_run_stays_finished_whatever_its_callbacks_do(here: Path, error: BaseException) -> None:
    noting = Noting()
    with pytest.raises(type(error)):
        run(callbacks=[Writing(error), noting])
    assert noting.calls[-1][0] == "end", "others are told all the same"
    assert json.loads((run_folder() / "run.json").read_text())["status"] == "done"
    assert run().record == noting.calls[-1][1]
