"""The engine `slurm` on a real Slurm, of one node on the loopback interface."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import sweeps
from tests.helpers.interrupted_sweeps import interrupted
from tests.helpers.slurm import slurm, why_not

RUN, OTHER = "cl_lstm-smoke-s0", "cl_lstm-smoke-s1"

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


def job_of(place: Path, run: str) -> str | None:
    """The job of a run, such as "cl_lstm-smoke-s1", that is at work and has saved a checkpoint."""
    noted = place / "runs" / "sweeps" / "grid" / "slurm" / "jobs.json"
    jobs = json.loads(noted.read_text()) if noted.is_file() else {}
    job = next((job for at, job in jobs.items() if f"/{run}-" in at), None)
    return job if job and sweeps.process_of(place, run) else None


def test_a_job_that_is_preempted_and_loses_its_driver_ends_in_the_same_row(
    cluster: dict[str, str], tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path, sweeps.ONE)
    words = ["--engine", "slurm", "--slurm", "time=30"]
    sweep = sweeps.started(place, sweep_cache, *words, env=cluster)
    job = sweeps.until(lambda: job_of(place, RUN))
    words_of_urgent = ["--partition=urgent", "--exclusive", "--output=/dev/null", "--parsable", "--wrap=sleep 600"]
    urgent = call(cluster, "sbatch", *words_of_urgent).strip()
    sweeps.until(lambda: "Restarts=1" in call(cluster, "scontrol", "show", "job", "-o", job))
    sweeps.kill(sweep.pid)
    sweep.communicate()
    assert json.loads(next(place.glob(f"runs/late/{RUN}-*/run.json")).read_text())["status"] == "interrupted"
    call(cluster, "scancel", urgent)  # until here the job could not begin again
    sweeps.swept(place, sweep_cache, *words, env=cluster)  # takes the job over
    assert [path.name for path in (place / "runs/sweeps/grid/slurm").glob("*_result.pkl")] == [f"{job}_0_result.pkl"]
    sweeps.same(place, local_sweep())
    assert not call(cluster, "squeue", "--noheader")


def test_jobs_that_are_cancelled_killed_and_stopped_end_in_the_same_rows(
    cluster: dict[str, str], tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path)
    words = ["--engine", "slurm", "--jobs", "2", "--slurm", "partition=short"]
    sweep = sweeps.started(place, sweep_cache, *words, env=cluster)
    call(cluster, "scancel", sweeps.until(lambda: job_of(place, RUN)))
    sweeps.kill(sweeps.parent_of(sweeps.until(lambda: sweeps.process_of(place, OTHER))))
    sweeps.until(lambda: sweeps.tries(place, RUN) == sweeps.tries(place, OTHER) == 2)
    sweep.send_signal(signal.SIGINT)
    said, _ = sweep.communicate(timeout=600)
    assert sweep.returncode == 130, said
    assert said.count("failed (") == 2, said
    assert "is CANCELLED and has left no result" in said
    assert "go on with: harness sweep grid.yaml" in " ".join(said.split())
    assert not call(cluster, "squeue", "--noheader", "--states=PENDING,RUNNING")
    sweeps.swept(place, sweep_cache, *words, env=cluster)
    assert len(sweeps.rows(place)) == 3
    sweeps.same(place, local_sweep())


def test_a_sweep_that_is_interrupted_at_random_comes_to_the_same(
    cluster: dict[str, str], tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path, sweeps.ONE)
    words = sweeps.command(sweep_cache, "--engine", "slurm")
    assert interrupted(words, place, times=2, every=3, seed=1, env=cluster)
    assert sweeps.same(place, local_sweep()) == 1
