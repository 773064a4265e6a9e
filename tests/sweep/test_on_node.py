"""A run on a node: it does not outlive whoever waits for it, and hears of a stop however early that comes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.sweep import on_node, slurm_node
from harness.sweep.definition import Resources
from harness.sweep.engine import STOPPED, Task
from harness.sweep.places import Places
from harness.sweep.slurm_node import SlurmRun, stop_file


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(("run", "p"), Places((Path("a"), Path("b"))), tmp_path / "run", tmp_path / "log.txt", Resources())


def test_a_run_is_ended_where_nobody_hears_how_it_ends(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def sleeping(words: list[str], **more: Any) -> subprocess.Popen[bytes]:
        started.append(popen(["sleep", "600"], **more))
        return started[-1]

    def unreachable() -> int | None:
        raise ConnectionError("the desk is gone")

    monkeypatch.setattr(on_node.subprocess, "Popen", sleeping)
    with pytest.raises(ConnectionError):
        on_node.run_here(task, False, tmp_path, unreachable)
    assert [each.returncode for each in started] == [-9]


def test_a_job_that_was_stopped_before_it_had_a_process_does_not_begin(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(slurm_node.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(slurm_node, "run_here", lambda *_: 0)
    run = SlurmRun(task, False, tmp_path, tmp_path)
    assert run() == 0
    stop_file(tmp_path, "7").touch()
    assert run() == STOPPED
