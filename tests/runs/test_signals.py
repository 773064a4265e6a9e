"""SIGINT, SIGTERM and SIGHUP end a run at the next update or batch, SIGUSR1 saves it; nothing of it is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.runs import run_folder
from tests.helpers.signalled_runs import CASES, SCORING, Case

pytestmark = pytest.mark.slow

STOPPED = [case for case in CASES if case.signal != "SIGUSR1"]
SAVED = [case for case in CASES if case.signal == "SIGUSR1"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/helpers/signalled_runs.py tells of each case."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.signalled_runs", str(tmp_path_factory.mktemp("signals"))],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def same_results(found: dict[str, Any]) -> None:
    ours, whole = run_folder(Path(found["folder"])), run_folder(Path(found["whole"]))
    for name in ("scores.npz", "weights.safetensors"):
        assert (ours / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("case", STOPPED, ids=lambda case: case.name)
def test_it_stops_before_the_next_update_or_batch_and_goes_on_to_the_same_results(
    results: dict[str, Any], case: Case
) -> None:
    found = results[case.name]
    assert found["code"] == 130, found["said"]
    assert found["after"] == []
    assert "Traceback" not in found["said"]
    assert "--resume" in found["said"]
    assert found["checkpoint"]
    assert found["resumed"] == 0, found["said"]
    same_results(found)


@pytest.mark.parametrize("case", SAVED, ids=lambda case: case.name)
def test_it_saves_at_once_and_goes_on(results: dict[str, Any], case: Case) -> None:
    found = results[case.name]
    assert found["checkpoint"], found["said"]
    if case.during == SCORING:
        assert found["code"] == 0, "there is nothing to save then, and it goes on"
    else:
        assert len(found["after"]) == 2
        assert found["code"] == -9, "killed by the test, before anything else was saved"
        assert found["resumed"] == 0, found["said"]
    same_results(found)
