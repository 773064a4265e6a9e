"""Driving a sweep: runs that are missing are begun, unfinished ones resumed, failed ones tried once more."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.runs.status import IN_USE, in_use
from harness.sweep.engine import STOPPED, Engine, Job, State, Task
from harness.sweep.places import Places
from harness.sweep.plan import Planned
from harness.util.atomic_files import replacing
from harness.util.signals import deferred

Outcome = Literal["done", "failed", "interrupted", "waiting"]
STATUS = "sweep.json"
"""What the folder of a sweep holds besides the logs of its runs: how far each got."""

TRIES = 2
_LAST_BYTES = 8192
"""How much of the end of a log is read for its last line."""
_PATIENCE = 600.0
"""Seconds that runs have to save and end after they were asked to; then they are killed, and lose what they did since
their last checkpoint."""


@dataclass(frozen=True)
class Result:
    """How a run of a sweep ended: `reason` is the last line that a failed one printed in its last try."""

    planned: Planned
    outcome: Outcome
    log: Path
    reason: str = ""


@dataclass
class _Active:
    number: int
    job: Job
    state: State = "queued"


def drive(
    planned: Sequence[Planned],
    engine: Engine,
    places: Places,
    folder: Path,
    seconds: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
    pause: float = 0.2,
    then: Callable[[Planned, Outcome], Sequence[Planned]] = lambda *_: (),
) -> list[Result]:
    """Runs what is missing; the result of every run, in order.

    `then` is called once a run has ended, 'done' or 'failed', and gives further runs.

    `seconds` limits the whole: then, and after Ctrl-C or SIGTERM, no run begins and those under way are asked to save
    and to end. A run that fails is tried once more, from its checkpoint, and does not stop the others.
    """
    sweep = _Sweep(engine, places, folder, tell, then)
    sweep.add(planned)
    deadline = None if seconds is None else time.monotonic() + seconds
    with deferred() as stop:
        sweep.write_status()
        try:
            while sweep.waiting or sweep.active:
                late = deadline is not None and time.monotonic() >= deadline
                if stop.requested or late:
                    sweep.halt("stopping" if stop.requested else "the time of the sweep is over")
                    break
                sweep.step()
                time.sleep(pause)
        except Exception:  # a disk that is full, a controller that does not answer: nobody else would stop the runs
            sweep.halt("the sweep cannot go on")
            raise
        finally:
            sweep.write_status()
    return sweep.results()


class _Sweep:
    """The state of a sweep while it is driven."""

    def __init__(
        self,
        engine: Engine,
        places: Places,
        folder: Path,
        tell: Callable[[str], None],
        then: Callable[[Planned, Outcome], Sequence[Planned]],
    ) -> None:
        self.engine, self.places, self.folder, self.tell, self.then = engine, places, folder, tell, then
        self.planned: list[Planned] = []
        self.outcome: list[Outcome] = []
        self.waiting: list[int] = []
        self.tries: list[int] = []
        self.log_begins: list[int] = []
        self.reasons: list[str] = []
        self.active: list[_Active] = []
        self.written: list[dict[str, Any]] = []
        self.mute = False

    def add(self, planned: Sequence[Planned]) -> None:
        """Adds runs; those of a higher priority than others that wait begin before them."""
        for each in planned:
            done = each.state == "done"
            if not done:
                self.waiting.append(len(self.planned))
            self.planned.append(each)
            self.outcome.append("done" if done else "waiting")
            self.tries.append(0)
            self.log_begins.append(0)
            self.reasons.append("")
        self.waiting.sort(key=lambda number: -self.planned[number].run.priority)

    def step(self) -> None:
        """Takes note of runs that have begun or ended, and hands the engine those that it has room for."""
        for each in list(self.active):
            self._look_at(each)
            if isinstance(each.state, int):
                self.active.remove(each)
                self._ended(each.number, each.state)
        # A run that a process still works on, such as one of a sweep that was killed, is waited for.
        free = [number for number in self.waiting if not in_use(self.planned[number].folder)]
        sizes = [_size(self.log(number)) for number in free]  # now: a run may print before it is known which are taken
        jobs = self.engine.submit([self._task(number) for number in free]) if free else []
        for number, size, job in zip(free, sizes, jobs, strict=False):
            self.waiting.remove(number)
            self.tries[number] += 1
            self.log_begins[number] = size
            self.active.append(_Active(number, job))
        self.write_status()

    def halt(self, why: str) -> None:
        """Asks all runs under way to save and to end, and waits for them, also where one of them makes trouble."""
        for each in self.active:
            with contextlib.suppress(Exception):
                self._look_at(each)
        running = sum(each.state == "running" for each in self.active)
        if running:
            self.tell(f"{why}: {running} runs are saving what they have")
        for each in self.active:
            with contextlib.suppress(Exception):
                each.job.stop()
        codes = _ended_by([each.job for each in self.active], time.monotonic() + _PATIENCE)
        for each, code in zip(self.active, codes, strict=True):
            never_begun = each.state == "queued" and code == STOPPED
            self.outcome[each.number] = "done" if code == 0 else "waiting" if never_begun else "interrupted"
        self.active, self.waiting = [], []

    def write_status(self) -> None:
        """Writes how far each run got, for `--status`, if that has changed. The sweep goes on where it cannot."""
        running = {each.number for each in self.active if each.state == "running"}
        rows = [
            {
                "run": each.run.title,
                "folder": str(each.folder),
                "log": str(self.log(number)),
                "state": "running" if number in running else self.outcome[number],
                "tries": self.tries[number],
            }
            for number, each in enumerate(self.planned)
        ]
        if rows == self.written:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / STATUS) as temporary:
                temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            if not self.mute:
                self.tell(f"{self.folder / STATUS}: {error.strerror or error}; until that is fixed --status is behind")
            self.mute = True
            return
        self.written, self.mute = rows, False

    def results(self) -> list[Result]:
        return [
            Result(each, self.outcome[number], self.log(number), self.reasons[number])
            for number, each in enumerate(self.planned)
        ]

    def log(self, number: int) -> Path:
        """The file with what a run printed."""
        each = self.planned[number]
        return self.folder / "logs" / f"{each.protocol}-{each.folder.name}.txt"

    def _task(self, number: int) -> Task:
        each = self.planned[number]
        run = each.run
        return Task(tuple(run.words), self.places, each.folder, self.log(number), run.resources, not run.train_only)

    def _look_at(self, active: _Active) -> None:
        queued, active.state = active.state == "queued", active.job.poll()
        if queued and active.state != "queued":
            again = " (once more)" if self.tries[active.number] > 1 else ""
            self.tell(f"begun: {self.planned[active.number].run.title}{again}")

    def _ended(self, number: int, code: int) -> None:
        each = self.planned[number]
        if code == 0:
            self.outcome[number] = "done"
            self.tell(f"done: {each.run.title}")
            self.add(self.then(each, "done"))
            return
        reason = _last_line(self.log(number), self.log_begins[number]) or "its log does not say why"
        if code == 2 and reason.endswith(IN_USE):  # that process came first, and is waited for: this was no try
            self.tries[number] -= 1
            self.waiting.append(number)
            return
        # Wrong use does not become right by being tried again.
        if code == 2 or self.tries[number] >= TRIES:
            self.outcome[number], self.reasons[number] = "failed", reason
        else:
            self.waiting.append(number)
        how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
        self.tell(f"failed ({how}): {each.run.title}: {reason}")
        if self.outcome[number] == "failed":
            self.add(self.then(each, "failed"))


def _ended_by(jobs: Sequence[Job], patience: float) -> list[State | None]:
    """How jobs ended that were asked to; those that take too long, or of which nothing is to be heard, are killed.

    All are looked at in turns: that one has left the queue of a cluster is known only some time later.
    """
    codes: list[State | None] = [None] * len(jobs)
    left = list(range(len(jobs)))
    while left:
        is_late = time.monotonic() >= patience
        going_on = []
        for number in left:
            try:
                code = jobs[number].poll()
                if isinstance(code, int):
                    codes[number] = code
                elif is_late:
                    jobs[number].kill()
                else:
                    going_on.append(number)
            except Exception:
                with contextlib.suppress(Exception):
                    jobs[number].kill()
        left = going_on
        if left:
            time.sleep(0.05)
    return codes


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:  # it is not there before its first run
        return 0


def _last_line(log: Path, begin: int) -> str:
    """The last line of an error in a log, or else its last line, from byte `begin` on: earlier tries and sweeps have
    written what is before that. A log that is shorter by now was begun anew, and is read from its beginning."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin if begin <= size else 0, size - _LAST_BYTES))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith("harness: error: ")]
    return (errors or said or [""])[-1].removeprefix("harness: error: ")
