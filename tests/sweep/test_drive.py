"""Driving a sweep: what is begun when, what happens to runs that fail, and how all of it is stopped."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.runs.status import IN_USE, lock_of
from harness.sweep import drive as drive_module
from harness.sweep import local
from harness.sweep.definition import Resources
from harness.sweep.drive import STATUS, Result, drive
from harness.sweep.engine import Job, State, Task
from harness.sweep.local import Local, Machine
from harness.sweep.places import Places
from harness.sweep.plan import Planned
from harness.util.errors import RunError
from tests.helpers.sweeps import plain_run

PLACES = Places((Path("leaderboards"), Path("runs/boards")))


def planned(folder: Path, seed: int, resources: Resources | None = None) -> Planned:
    run = plain_run(seed, resources)
    return Planned(run, folder / f"run-{seed}", "p", "m", None)


class Scripted:
    """A process that ends with the given exit code when it is looked at the n-th time, or when it is asked to."""

    def __init__(self, code: int, looks: int = 1, when_stopped: int = 130) -> None:
        self.code, self.looks, self.when_stopped, self.stopped = code, looks, when_stopped, False

    def poll(self) -> int | None:
        self.looks -= 1
        if self.stopped:
            return self.when_stopped
        return self.code if self.looks < 0 else None

    def send_signal(self, number: int) -> None:
        assert number == signal.SIGINT
        self.stopped = True


def scripted(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[list[str], int], Scripted]
) -> list[tuple[list[str], Scripted]]:
    """From now on processes are scripted, given their words and how many began before; those that began."""
    started: list[tuple[list[str], Scripted]] = []

    def popen(words: Sequence[str], **_: Any) -> Scripted:
        process = script(list(words), len(started))
        started.append((list(words), process))
        return process

    monkeypatch.setattr(local.subprocess, "Popen", popen)
    return started


def driven(tmp_path: Path, runs: list[Planned], machine: Machine, **limits: Any) -> list[Result]:
    return drive(runs, Local(machine), PLACES, tmp_path / "sweep", pause=0, **limits)


def seed_of(words: list[str]) -> int:
    return int(words[words.index("--seed") + 1])


def test_runs_begin_in_order_and_only_while_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []

    def script(words: list[str], before: int) -> Scripted:
        at_once.append(sum(each.looks >= 0 for _, each in started))
        return Scripted(0, looks=5)

    started = scripted(monkeypatch, script)
    runs = [planned(tmp_path, seed, Resources(cores=2)) for seed in range(5)]
    results = driven(tmp_path, runs, Machine(cores=4, memory_gb=8, gpus=0))
    assert [each.outcome for each in results] == ["done"] * 5
    assert [seed_of(words) for words, _ in started] == list(range(5))
    assert max(at_once) == 1  # and the new one beside it
    for words, _ in started:
        assert words[words.index("--device") + 1] == "cpu"
        assert words[words.index("--threads") + 1] == "2"


@pytest.mark.parametrize(
    ("resources", "machine", "fit"),
    [
        (Resources(cores=1), Machine(3, 8, 0), 3),
        (Resources(cores=1, memory_gb=3), Machine(8, 8, 0), 2),
        (Resources(cores=1, gpus=0.25), Machine(64, 8, 1), 4),
        (Resources(cores=1, gpus=1 / 3), Machine(64, 8, 2), 6),
        (Resources(cores=1, gpus=1), Machine(64, 8, 2), 2),
        (Resources(cores=9, memory_gb=99), Machine(2, 8, 0), 1),  # more than there is: alone
    ],
)
def test_a_machine_holds_what_it_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: Resources, machine: Machine, fit: int
) -> None:
    started = scripted(monkeypatch, lambda words, before: Scripted(0, looks=10**6))
    engine = Local(machine)
    task = Task(("run",), PLACES, tmp_path / "run", tmp_path / "log.txt", resources)
    while engine.submit([task]):
        pass
    assert len(started) == fit
    devices = [words[words.index("--device") + 1] for words, _ in started]
    if resources.gpus:
        per_gpu = {device: devices.count(device) for device in devices}
        assert per_gpu == {f"cuda:{n}": fit // machine.gpus for n in range(machine.gpus)}
    else:
        assert set(devices) == {"cpu"}


def test_a_failed_run_is_tried_once_more_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = {0: [1, 0], 1: [-9, 1], 2: [2], 3: [0]}
    started = scripted(monkeypatch, lambda words, before: Scripted(codes[seed_of(words)].pop(0)))
    lines: list[str] = []
    runs = [planned(tmp_path, seed) for seed in range(4)]
    results = driven(tmp_path, runs, Machine(1, 8, 0), tell=lines.append)
    assert [each.outcome for each in results] == ["done", "failed", "failed", "done"]
    assert [seed_of(words) for words, _ in started].count(2) == 1  # wrong use: not tried again
    assert all(not left for left in codes.values())
    assert any("killed by signal 9" in line for line in lines)
    rows = json.loads((tmp_path / "sweep" / STATUS).read_text())
    assert [(row["state"], row["tries"]) for row in rows] == [("done", 2), ("failed", 2), ("failed", 1), ("done", 1)]


def test_what_was_begun_before_is_resumed_and_what_is_done_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = scripted(monkeypatch, lambda words, before: Scripted(0))
    runs = [planned(tmp_path, seed) for seed in range(2)]
    runs[1].folder.mkdir()
    (runs[1].folder / "run.json").write_text('{"status": "training"}')
    driven(tmp_path, runs, Machine(1, 8, 0))
    assert ["--resume" in words for words, _ in started] == [False, True]


@pytest.mark.parametrize("how", ["signal", "time"])
def test_a_stop_lets_runs_save_and_begins_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def script(words: list[str], before: int) -> Scripted:
        if how == "signal" and before == 1:
            signal.raise_signal(signal.SIGINT)
        return Scripted(0, looks=10**6, when_stopped=0 if before == 0 else 130)

    started = scripted(monkeypatch, script)
    runs = [planned(tmp_path, seed) for seed in range(3)]
    results = driven(tmp_path, runs, Machine(2, 8, 0), seconds=None if how == "signal" else 0.2)
    assert [each.outcome for each in results] == ["done", "interrupted", "waiting"]  # the first ended just then
    assert all(process.stopped for _, process in started)
    assert len(started) == 2


def test_a_run_that_another_process_works_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = FileLock(lock_of(tmp_path / "run-0"))
    held.acquire()

    def script(words: list[str], before: int) -> Scripted:
        if seed_of(words) == 1:
            held.release()
        return Scripted(0)

    started = scripted(monkeypatch, script)
    results = driven(tmp_path, [planned(tmp_path, seed) for seed in range(2)], Machine(1, 8, 0))
    assert [each.outcome for each in results] == ["done", "done"]
    assert [seed_of(words) for words, _ in started] == [1, 0]


def test_two_processes_that_meet_in_a_folder_are_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [2, 1, 0]

    def popen(words: Sequence[str], stdout: Any, **_: Any) -> Scripted:
        if codes[0] == 2:
            stdout.write(f"harness: error: run-0 {IN_USE}\n".encode())
        return Scripted(codes.pop(0))

    monkeypatch.setattr(local.subprocess, "Popen", popen)
    (result,) = driven(tmp_path, [planned(tmp_path, 0)], Machine(1, 8, 0))
    assert result.outcome == "done"
    assert not codes
    assert json.loads((tmp_path / "sweep" / STATUS).read_text())[0]["tries"] == 2


def test_a_sweep_goes_on_where_its_status_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    lines: list[str] = []
    scripted(monkeypatch, lambda words, before: Scripted(0))
    monkeypatch.setattr(drive_module, "replacing", full)
    results = driven(tmp_path, [planned(tmp_path, seed) for seed in range(2)], Machine(1, 8, 0), tell=lines.append)
    assert [each.outcome for each in results] == ["done", "done"]
    assert sum("No space left on device; until that is fixed --status is behind" in line for line in lines) == 1


@pytest.mark.parametrize("error", [RunError("the controller does not answer"), OSError(errno.ENOSPC, "full")])
def test_runs_under_way_are_stopped_when_the_engine_fails(tmp_path: Path, error: Exception) -> None:
    class Failing:
        def __init__(self) -> None:
            self.jobs: list[Waiting] = []

        def submit(self, tasks: Sequence[Task]) -> list[Job]:
            if self.jobs:
                raise error
            self.jobs = [Waiting()]
            return list(self.jobs)

        def close(self) -> None:
            pass

    class Waiting:
        def __init__(self) -> None:
            self.stopped = False

        def poll(self) -> State:
            return 130 if self.stopped else "queued"

        def stop(self) -> None:
            self.stopped = True

        def kill(self) -> None:
            raise AssertionError

    engine = Failing()
    with pytest.raises(type(error)):
        drive([planned(tmp_path, seed) for seed in range(2)], engine, PLACES, tmp_path / "sweep", pause=0)
    assert engine.jobs[0].stopped
    rows = json.loads((tmp_path / "sweep" / STATUS).read_text())
    assert [row["state"] for row in rows] == ["waiting", "waiting"]  # one was queued and is taken back


def test_runs_that_are_stopped_are_waited_for_together(tmp_path: Path) -> None:
    looks: list[int] = []

    class Slow:
        """Has ended when it is looked at for the third time since it was stopped."""

        def __init__(self, number: int) -> None:
            self.number, self.stopped = number, False

        def poll(self) -> State:
            if not self.stopped:
                return "running"
            looks.append(self.number)
            return 130 if looks.count(self.number) == 3 else "running"

        def stop(self) -> None:
            self.stopped = True

        def kill(self) -> None:
            raise AssertionError

    class Two:
        def submit(self, tasks: Sequence[Task]) -> list[Job]:
            return [Slow(number) for number in range(len(tasks))]

        def close(self) -> None:
            pass

    runs = [planned(tmp_path, seed) for seed in range(2)]
    results = drive(runs, Two(), PLACES, tmp_path / "sweep", seconds=0.1, pause=0)
    assert [each.outcome for each in results] == ["interrupted", "interrupted"]
    assert looks == [0, 1] * 3
