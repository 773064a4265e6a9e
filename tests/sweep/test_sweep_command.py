"""`harness sweep` as its users run it, on tiny protocols and generated data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.boards.store import read_board
from harness.cli import main
from harness.sweep.definition import Grid, Sweep
from harness.sweep.engines import Choice
from harness.sweep.places import Places
from harness.sweep.whole import PlannedSweep, run_sweep
from tests.helpers import runs as tiny_runs
from tests.helpers.sweeps import SWEEP, written


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all sweeps of this module: a method is checked once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path) -> list[str]:
    """The command in a new working directory."""
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    return ["sweep", "grid.yaml", "--cache", str(shared), "--boards", "boards", "--jobs", "1"]


def printed(capsys: pytest.CaptureFixture[str], words: list[str]) -> list[dict[str, Any]]:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def interrupted(words: list[str]) -> None:
    """A sweep that is stopped by Ctrl-C once a training has begun."""
    sweep = subprocess.Popen(
        [sys.executable, "-m", "harness", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not any(Path().glob("runs/late/cl_lstm-*/run.json")):
        assert sweep.poll() is None
        time.sleep(0.02)
    sweep.send_signal(signal.SIGINT)
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 130, said
    assert "go on with: harness sweep grid.yaml" in " ".join(said.split())  # lines are wrapped where the path is long


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_to_the_numbers_of_runs_alone(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [row["state"] for row in printed(capsys, [*words, "--dry-run"])] == ["waiting"] * 3
    assert not Path("runs").exists()
    interrupted(words)
    states = [row["state"] for row in printed(capsys, [*words, "--status"])]
    assert set(states) <= {"done", "unfinished", "waiting"}
    assert states.count("done") < 3
    rows = printed(capsys, words)
    assert [row["outcome"] for row in rows] == ["done"] * 3
    before = {path: path.read_bytes() for path in Path().glob("runs/late/*/record.json")}
    board = read_board(Path("boards/stand_in/late.jsonl"))
    assert len(before) == len(board.records) == 3
    assert not board.problems

    assert main(words) == 0
    assert "3 finished before, 0 to do" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path().glob("runs/late/*/record.json")} == before

    alone = [*tiny_runs.words("late"), "--data", "stand-in", "--seed", "1", "--out", "alone", "--no-board", "--json"]
    assert main(alone) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    (row,) = [each for each in rows if "seed 1" in each["run"]]
    assert found.keys() == row["metrics"].keys()
    for name, each in found.items():
        assert [each["mean"], each["interval"]] == pytest.approx(
            [row["metrics"][name][k] for k in ("mean", "interval")]
        )


@pytest.mark.slow
def test_a_row_on_the_board_is_not_run_again(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    own = ["run", "late.yaml", "--method", "copy_last", "--data", "stand-in", "--budget", "smoke", "--out", "elsewhere"]
    assert main([*own, *words[2:-2]]) == 0
    states = {row["run"].split()[0]: row["state"] for row in printed(capsys, [*words, "--dry-run"])}
    assert states == {"copy_last": "done", "cl_lstm": "waiting"}


@pytest.mark.slow
def test_a_finished_run_without_a_row_gets_one_and_is_not_repeated(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("grid.yaml").write_text(SWEEP.replace("  - {protocols: [late.yaml], methods: [cl_lstm]", "  # {"))
    own = ["run", "late.yaml", "--method", "copy_last", "--data", "stand-in", "--budget", "smoke", "--no-board"]
    assert main([*own, *words[2:4]]) == 0
    before = {path: path.read_bytes() for path in Path().glob("runs/late/*/record.json")}
    assert [row["state"] for row in printed(capsys, [*words, "--dry-run"])] == ["unfinished"]
    assert [row["outcome"] for row in printed(capsys, words)] == ["done"]
    assert {path: path.read_bytes() for path in Path().glob("runs/late/*/record.json")} == before
    assert len(read_board(Path("boards/stand_in/late.jsonl")).records) == 1


def test_a_sweep_that_is_under_way_is_not_begun_twice(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    folder = Path("runs/sweeps/grid")
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert main(words) == 2
    assert "is under way in another process" in capsys.readouterr().err


def test_a_look_whether_a_sweep_is_under_way_keeps_none_from_beginning(tmp_path: Path) -> None:
    from filelock import FileLock

    places = Places((Path("leaderboards"), Path("runs/boards")), out=tmp_path)
    grid = Grid(protocols=["late.yaml"], methods=["copy_last"])
    planned = PlannedSweep("grid", Sweep(runs=[grid]), places, (), ())
    planned.folder.mkdir(parents=True)
    looking = FileLock(planned.folder / ".lock", thread_local=False)
    looking.acquire()
    threading.Timer(0.1, looking.release).start()
    assert run_sweep(planned, Choice("local", jobs=1), seconds=None).results == ()


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["episodes: 3", "time: 5s"])
def test_a_limit_of_training_leaves_runs_without_any_as_they_are(
    limit: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = f"{{protocols: [late.yaml], methods: [count], seeds: [0], {limit}}}"
    Path("grid.yaml").write_text(f"data: stand-in\nbudgets: [smoke]\nruns: [{grid}]\n", encoding="utf-8")
    assert len(printed(capsys, words)) == 1
    assert [row["state"] for row in printed(capsys, [*words, "--status"])] == ["done"]


def test_a_precision_of_gpus_is_planned_for_where_there_is_none(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Path("cl_lstm.yaml")
    recipe.write_text(recipe.read_text().replace("      batch: 2\n", "      batch: 2\n      precision: tf32\n"))
    assert {row["state"] for row in printed(capsys, [*words, "--dry-run"])} == {"waiting"}
