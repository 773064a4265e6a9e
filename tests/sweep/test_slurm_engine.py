"""The engine `slurm` on a real Slurm, of one node on the loopback interface."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import sweeps
from tests.helpers.slurm import slurm, why_not

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands find a cluster."""
    pytest.importorskip("submitit", reason="submitit is not installed (the extra slurm)")
    if why := why_not():
        pytest.skip(f"Slurm cannot be started: {why}")
    with slurm(tmp_path_factory.mktemp("slurm")) as variables:
        yield sweeps.environment(**variables)


def call(cluster: dict[str, str], *words: str) -> str:
    return subprocess.run(words, env=cluster, capture_output=True, text=True, timeout=60, check=True).stdout


def training(place: Path) -> str | None:
    """The job of a training that has saved a checkpoint."""
    noted = place / "runs" / "sweeps" / "grid" / "slurm" / "jobs.json"
    jobs = json.loads(noted.read_text()) if noted.is_file() else {}
    begun = (path.parent for path in place.glob("runs/late/cl_lstm-*/checkpoint.safetensors"))
    return next((jobs[str(run.relative_to(place))] for run in begun if str(run.relative_to(place)) in jobs), None)


def test_jobs_that_are_preempted_or_lose_their_driver_end_in_the_same_rows(
    cluster: dict[str, str], tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path)
    words = ["--engine", "slurm", "--slurm", "time=30"]
    sweep = sweeps.started(place, sweep_cache, *words, env=cluster)
    job = sweeps.until(lambda: training(place))
    call(cluster, "scancel", "--signal=TERM", job)  # what preemption sends
    sweeps.until(lambda: "Restarts=1" in call(cluster, "scontrol", "show", "job", "-o", job))
    call(cluster, "scontrol", "update", f"JobId={job}", "StartTime=now")  # else Slurm lets it wait for two minutes
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    before = set(json.loads((place / "runs/sweeps/grid/slurm/jobs.json").read_text()).values())
    sweeps.swept(place, sweep_cache, *words, env=cluster)  # takes the jobs over
    assert {path.name.partition("_0_")[0] for path in (place / "runs/sweeps/grid/slurm").glob("*_result.pkl")} >= before
    assert sweeps.rows(place) == sweeps.rows(local_sweep())
    assert sweeps.scores(place) == sweeps.scores(local_sweep())
    assert not call(cluster, "squeue", "--noheader")


def test_ctrl_c_lets_jobs_save_and_leaves_none_in_the_queue(
    cluster: dict[str, str], tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path)
    words = ["--engine", "slurm", "--jobs", "1", "--slurm", "partition=usual"]
    sweep = sweeps.started(place, sweep_cache, *words, env=cluster)
    sweeps.until(lambda: training(place))
    sweep.send_signal(signal.SIGINT)
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 130, said
    assert "go on with: harness sweep grid.yaml" in said
    assert not call(cluster, "squeue", "--noheader", "--states=PENDING,RUNNING")
    states = [json.loads(path.read_text())["status"] for path in place.glob("runs/late/cl_lstm-*/run.json")]
    assert set(states) <= {"interrupted", "done"}
    sweeps.swept(place, sweep_cache, *words, env=cluster)
    assert sweeps.rows(place) == sweeps.rows(local_sweep())
    assert sweeps.scores(place) == sweeps.scores(local_sweep())
