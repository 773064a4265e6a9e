"""Runs that are killed at random moments end, once resumed, with the bits of the undisturbed run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.boards.store import read_board
from tests.helpers.runs import run_folder

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/killed_runs.py tells: chains of kills and resumes, each in a folder of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.killed_runs", str(tmp_path_factory.mktemp("kills")), str(KILLS), "0"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def without_times(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text())
    for key in ("finished", "train_seconds", "score_seconds", "command"):
        del record[key]
    for each in record["pretrained"]:
        # Killed between keeping features and its next checkpoint, a run finds its own and reuses them.
        del each["seconds"], each["reused"]
    return record


def test_training_scoring_and_writing_were_all_cut_off(killed: dict[str, Any]) -> None:
    moments = Counter(what for chain in killed["chains"] for what in chain["killed"])
    assert moments.total() == KILLS
    assert moments.keys() == {"training", "scoring", "writing", "by the clock"}
    assert max(len(chain["killed"]) for chain in killed["chains"]) > 1, "a resumed run was killed too"


def test_every_run_goes_on_to_its_end_and_shows_no_traceback(killed: dict[str, Any]) -> None:
    for chain in killed["chains"]:
        assert chain["code"] == 0, chain
        assert "Traceback" not in chain["said"]


def test_scores_weights_and_record_are_those_of_the_undisturbed_run(killed: dict[str, Any]) -> None:
    for chain in killed["chains"]:
        ours, whole = run_folder(Path(chain["folder"])), run_folder(Path(chain["whole"]))
        for name in ("scores.npz", "weights.safetensors"):
            assert (ours / name).read_bytes() == (whole / name).read_bytes(), (name, chain)
        assert without_times(ours / "record.json") == without_times(whole / "record.json"), chain


def test_nothing_is_left_behind(killed: dict[str, Any]) -> None:
    for chain in killed["chains"]:
        ours, whole = run_folder(Path(chain["folder"])), run_folder(Path(chain["whole"]))
        assert {each.name for each in ours.iterdir()} == {each.name for each in whole.iterdir()}, chain
        assert not list(Path(chain["folder"]).glob("leaderboards/.*.tmp-*")), chain


def test_each_run_has_its_one_row(killed: dict[str, Any]) -> None:
    for chain in killed["chains"]:
        folder = Path(chain["folder"])
        (path,) = folder.glob("leaderboards/*.jsonl")
        board = read_board(path)
        assert [each.run for _, each in board.records] == [run_folder(folder).name]
        assert all(".torn-" in problem for problem in board.problems), "half a line is set aside"
