"""How jobs of Slurm are told to stop: all at once, before one of them makes room for the next."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.sweep import slurm_engine
from harness.sweep.definition import Resources
from harness.sweep.engine import STOPPED, Task
from harness.sweep.places import Places
from harness.sweep.slurm_engine import Queue, SlurmEngine, SlurmJob
from harness.sweep.slurm_node import stop_file

JOBS = ("1_0", "1_1", "1_2")


@pytest.fixture
def engine(tmp_path: Path) -> SlurmEngine:
    paths = SimpleNamespace(result_pickle=tmp_path / "none")
    submitit = SimpleNamespace(SlurmJob=lambda folder, job_id: SimpleNamespace(paths=paths))
    (tmp_path / "slurm").mkdir()
    return SlurmEngine(submitit, {}, 60, None, tmp_path / "slurm", Queue("me"))


def jobs_of(engine: SlurmEngine) -> list[SlurmJob]:
    places = Places((Path("a"), Path("b")))
    return [SlurmJob(engine, Task((), places, Path(job), Path("log"), Resources()), job) for job in JOBS]


def test_all_are_told_in_one_call_each_and_once(engine: SlurmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Sequence[str]] = []
    there = dict.fromkeys(JOBS, "RUNNING")

    def run(words: Sequence[str], **_: Any) -> Any:
        if words[0] == "squeue":
            lines = "".join(f"{job}|{state}\n" for job, state in there.items())
            return subprocess.CompletedProcess(words, 0, lines, "")
        said.append(words)
        if "--state=PENDING" in words:
            there.clear()
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(slurm_engine, "LOOK_EVERY", 0.0)
    jobs = jobs_of(engine)
    assert [job.poll() for job in jobs] == ["running"] * 3
    for job in jobs:
        job.stop()
    assert said == []
    for job in jobs:
        while job.poll() != STOPPED:
            pass
    assert said == [("scancel", "--state=PENDING", *JOBS), ("scancel", "--signal=INT", *JOBS)]


def test_those_that_have_only_just_begun_find_a_file(engine: SlurmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(words: Sequence[str], **_: Any) -> Any:
        raise subprocess.TimeoutExpired(words, 60)

    monkeypatch.setattr(subprocess, "run", slow)
    monkeypatch.setattr(engine.queue, "state", lambda job: "RUNNING")
    jobs = jobs_of(engine)
    for job in jobs[1:]:
        job.stop()
    assert jobs[0].poll() == "running"  # whichever is looked at
    assert [stop_file(engine.folder, job).exists() for job in JOBS] == [False, True, True]


def test_none_is_told_twice_where_the_disk_is_full(engine: SlurmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Sequence[str]] = []

    def run(words: Sequence[str], **_: Any) -> Any:
        said.append(words)
        return subprocess.CompletedProcess(words, 0)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(Path, "touch", full)
    monkeypatch.setattr(engine.queue, "state", lambda job: "RUNNING")
    jobs = jobs_of(engine)
    jobs[0].stop()
    with pytest.raises(OSError, match="full"):
        jobs[0].poll()
    assert jobs[1].poll() == "running"
    assert len(said) == 2
