"""What a sweep says of a run that failed: what its last try printed, and nothing that was in the log before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.sweep.drive import Result, drive
from harness.sweep.engine import Job, State, Task, say
from harness.sweep.places import Places
from harness.sweep.plan import Planned
from tests.helpers.sweeps import plain_run

Try = tuple[int, Callable[[Path], object]]
"""The exit code of a try, and what is done to its log."""

OLDER = "harness: error: could not be written (No space left on device)\n"
NOTHING = "its log does not say why"


def prints(text: str) -> Callable[[Path], object]:
    """What a process does whose output is appended to the log."""

    def write(log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as out:
            out.write(text)

    return write


@dataclass
class Ended:
    """A job that has ended, and says so when it is looked at: an engine may say why only then."""

    code: int
    log: Path
    do: Callable[[Path], object]

    def poll(self) -> State:
        self.do(self.log)
        return self.code

    def stop(self) -> None:
        raise AssertionError

    def kill(self) -> None:
        raise AssertionError


@dataclass
class Scripted:
    """An engine with room for one job at a time, whose tries print as soon as they are submitted or, with `late`, when
    they are looked at."""

    tries: list[Try]
    late: bool = False

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        code, do = self.tries.pop(0)
        if not self.late:
            do(tasks[0].log)
        return [Ended(code, tasks[0].log, do if self.late else lambda _: None)]

    def close(self) -> None:
        pass


def driven(folder: Path, tries: Sequence[Try], late: bool = False) -> tuple[Result, list[str]]:
    """The result of a run with such tries, and what was told of those that failed."""
    run = plain_run()
    lines: list[str] = []
    places = Places((Path("leaderboards"), Path("runs/boards")))
    planned = Planned(run, folder / "run-0", "p", "m", None)
    (result,) = drive([planned], Scripted(list(tries), late), places, folder / "sweep", pause=0, tell=lines.append)
    return result, [line for line in lines if line.startswith("failed")]


@pytest.mark.parametrize("late", [False, True])
def test_a_try_is_not_told_with_the_error_of_an_earlier_one(tmp_path: Path, late: bool) -> None:
    result, told = driven(tmp_path, [(1, prints(OLDER)), (-11, prints("Segmentation fault\n"))], late)
    assert told[0].endswith("No space left on device)")
    assert told[1].endswith(": Segmentation fault")
    assert result.reason == "Segmentation fault"


def test_nor_is_a_sweep_with_those_of_an_earlier_sweep(tmp_path: Path) -> None:
    driven(tmp_path, [(2, prints(OLDER))])
    result, told = driven(tmp_path, [(-9, prints("")), (-9, prints("1200 episodes"))])  # without the end of its line
    assert told[0].startswith("failed (killed by signal 9): ")
    assert told[0].endswith(f": {NOTHING}")
    assert result.reason == "1200 episodes"
    result, _ = driven(tmp_path, [(1, prints("Killed\n")), (1, prints("harness: error: no\nAborted\n"))])
    assert result.reason == "no"


def test_a_log_that_is_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    def replaced(log: Path) -> None:
        log.unlink()
        log.write_text("harness: error: a later one\n")

    result, _ = driven(tmp_path, [(1, prints(2 * OLDER)), (1, replaced)])
    assert result.reason == "a later one"


def test_there_may_be_no_log(tmp_path: Path) -> None:
    result, told = driven(tmp_path, [(-9, lambda _: None)] * 2)
    assert (result.reason, len(told)) == (NOTHING, 2)


def test_what_an_engine_says_of_a_run_that_it_lost_is_of_the_try(tmp_path: Path) -> None:
    def lost(log: Path) -> None:
        say(log, "Slurm", "job 7 is NODE_FAIL and has left no result")

    result, _ = driven(tmp_path, [(1, prints(OLDER)), (-9, lost)], late=True)
    assert result.reason == "Slurm: job 7 is NODE_FAIL and has left no result"
