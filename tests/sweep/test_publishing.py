"""Rows of runs on nodes: one after another, once each, and none of a run that has not ended well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.sweep import local
from harness.sweep.definition import Resources
from harness.sweep.engine import Job, State, Task
from harness.sweep.places import Places
from harness.sweep.publishing import Publishing

PLACES = Places((Path("a"), Path("b")), boards=Path("boards"))


@dataclass
class Scripted:
    """A job that goes through the given states and stays in the last."""

    states: list[State]
    stopped: bool = False

    def poll(self) -> State:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        raise AssertionError


@dataclass
class Nodes:
    """An engine with room for some jobs."""

    room: int
    states: list[State]
    jobs: list[Scripted] = field(default_factory=list)

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        new = [Scripted(list(self.states)) for _ in tasks[: self.room - len(self.jobs)]]
        self.jobs += new
        return list(new)

    def close(self) -> None:
        pass


class Process:
    """A process that publishes, until its code is set."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The processes that publish."""
    started: list[Process] = []

    def popen(words: Sequence[str], **_: Any) -> Process:
        started.append(Process(words))
        return started[-1]

    monkeypatch.setattr(local.subprocess, "Popen", popen)
    return started


def task(folder: Path, seed: int) -> Task:
    words = ("run", "p", "--method", "m", "--seed", str(seed))
    return Task(words, PLACES, folder / f"run-{seed}", folder / "log.txt", Resources(cores=4, gpus=1))


def finished(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text('{"status": "done"}')


def test_a_job_is_done_once_its_row_is_written(tmp_path: Path, published: list[Process]) -> None:
    engine = Publishing(Nodes(2, ["queued", "running", 0]))
    tasks = [task(tmp_path, seed) for seed in range(3)]
    first, second = engine.submit(tasks)  # there is no room for the third
    assert [first.poll(), first.poll()] == ["queued", "running"]
    assert not published
    for each in tasks:
        finished(each.folder)
    assert first.poll() == "running"
    words = published[0].words
    assert words[words.index("--resume") :] == ["--resume", "--device", "cpu", "--threads", "1"]
    assert "--no-board" not in words
    assert [second.poll() for _ in range(3)] == ["queued", "running", "running"]  # one process at a time
    assert len(published) == 1
    published[0].code = 0
    assert [first.poll(), second.poll()] == [0, "running"]
    published[1].code = 1
    assert second.poll() == 1


def test_a_run_that_fails_on_its_node_gets_no_row(tmp_path: Path, published: list[Process]) -> None:
    (job,) = Publishing(Nodes(1, ["running", -9])).submit([task(tmp_path, 0)])
    assert [job.poll(), job.poll()] == ["running", -9]
    assert not published


def test_a_finished_run_without_a_row_goes_to_no_node(tmp_path: Path, published: list[Process]) -> None:
    nodes = Nodes(9, [0])
    finished(task(tmp_path, 0).folder)
    (job,) = Publishing(nodes).submit([task(tmp_path, 0), task(tmp_path, 1)])
    assert not nodes.jobs
    assert job.poll() == "running"
    published[0].code = 0
    assert job.poll() == 0


def test_no_row_is_begun_once_the_sweep_is_being_stopped(tmp_path: Path, published: list[Process]) -> None:
    nodes = Nodes(1, ["running", 0])
    (job,) = Publishing(nodes).submit([task(tmp_path, 0)])
    job.poll()
    job.stop()
    assert nodes.jobs[0].stopped
    assert job.poll() == 130
    assert not published
