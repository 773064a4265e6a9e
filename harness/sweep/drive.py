"""Driving a sweep: runs that are missing are begun, unfinished ones resumed, failed ones tried once more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.sweep.local import Local, Process
from harness.sweep.plan import Places, Planned, state_of
from harness.util.atomic_files import replacing
from harness.util.signals import deferred

Outcome = Literal["done", "failed", "interrupted", "waiting"]
STATUS = "sweep.json"
"""What the folder of a sweep holds besides the logs of its runs: how far each got."""

TRIES = 2
_PATIENCE = 600.0
"""Seconds that runs have to save and end after they were asked to; then they are killed, and lose what they did since
their last checkpoint."""


@dataclass(frozen=True)
class Result:
    """How a run of a sweep ended: `reason` is the last line that a failed one printed."""

    planned: Planned
    outcome: Outcome
    log: Path
    reason: str = ""


@dataclass
class _Active:
    number: int
    process: Process
    tries: int


def drive(
    planned: Sequence[Planned],
    engine: Local,
    places: Places,
    folder: Path,
    seconds: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
    pause: float = 0.2,
) -> list[Result]:
    """Runs what is missing; the result of every run, in order.

    `seconds` limits the whole: then, and after Ctrl-C or SIGTERM, no run begins and those under way are asked to save
    and to end. A run that fails is tried once more, from its checkpoint, and does not stop the others.
    """
    sweep = _Sweep(list(planned), engine, places, folder, tell)
    deadline = None if seconds is None else time.monotonic() + seconds
    with deferred() as stop:
        sweep.write_status()
        while sweep.waiting or sweep.active:
            late = deadline is not None and time.monotonic() >= deadline
            if stop.requested or late:
                sweep.halt("stopping" if stop.requested else "the time of the sweep is over")
                break
            sweep.step()
            time.sleep(pause)
    sweep.write_status()
    return sweep.results()


class _Sweep:
    """The state of a sweep while it is driven."""

    def __init__(
        self, planned: list[Planned], engine: Local, places: Places, folder: Path, tell: Callable[[str], None]
    ) -> None:
        self.planned, self.engine, self.places, self.folder, self.tell = planned, engine, places, folder, tell
        self.outcome: list[Outcome] = ["done" if each.state == "done" else "waiting" for each in planned]
        self.waiting = [number for number, each in enumerate(planned) if each.state != "done"]
        self.tries = [0] * len(planned)
        self.active: list[_Active] = []

    def step(self) -> None:
        """Takes note of runs that have ended, and begins those that there is room for."""
        for each in list(self.active):
            code = each.process.poll()
            if code is not None:
                self.active.remove(each)
                self._ended(each, code)
        while self.waiting and self._begin(self.waiting[0]):
            self.waiting.pop(0)

    def halt(self, why: str) -> None:
        """Asks all runs under way to save and to end, and waits for them."""
        if self.active:
            self.tell(f"{why}: {len(self.active)} runs are saving what they have")
        for each in self.active:
            each.process.stop()
        patience = time.monotonic() + _PATIENCE
        for each in self.active:
            while (code := each.process.poll()) is None and time.monotonic() < patience:
                time.sleep(0.05)
            if code is None:
                each.process.kill()
            self.outcome[each.number] = "done" if code == 0 else "interrupted"
        self.active, self.waiting = [], []

    def write_status(self) -> None:
        """Writes how far each run got, for `--status`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        running = {each.number for each in self.active}
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
        with replacing(self.folder / STATUS) as temporary:
            temporary.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")

    def results(self) -> list[Result]:
        return [
            Result(each, self.outcome[number], self.log(number), self._reason(number))
            for number, each in enumerate(self.planned)
        ]

    def log(self, number: int) -> Path:
        """The file with what a run printed."""
        each = self.planned[number]
        return self.folder / "logs" / f"{each.protocol}-{each.folder.name}.txt"

    def _begin(self, number: int) -> bool:
        each = self.planned[number]
        words = [*each.run.words, *self.places.words]
        if state_of(each.folder) == "unfinished":
            words.append("--resume")
        process = self.engine.start(words, each.run.resources, self.log(number))
        if process is None:
            return False
        self.tries[number] += 1
        self.active.append(_Active(number, process, self.tries[number]))
        self.tell(f"begun: {each.run.title}" + (" (once more)" if self.tries[number] > 1 else ""))
        self.write_status()
        return True

    def _ended(self, active: _Active, code: int) -> None:
        each = self.planned[active.number]
        if code == 0:
            self.outcome[active.number] = "done"
        elif code == 2 or active.tries >= TRIES:  # wrong use does not become right by being tried again
            self.outcome[active.number] = "failed"
        else:
            self.waiting.append(active.number)
        if code == 0:
            self.tell(f"done: {each.run.title}")
        else:
            how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            self.tell(f"failed ({how}): {each.run.title}: {_last_line(self.log(active.number))}")
        self.write_status()

    def _reason(self, number: int) -> str:
        return _last_line(self.log(number)) if self.outcome[number] == "failed" else ""


def _last_line(log: Path) -> str:
    """The last line of an error in a log, or else its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith("harness: error: ")]
    return (errors or said or [""])[-1].removeprefix("harness: error: ")
