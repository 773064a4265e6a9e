"""What drives a sweep and what runs it: tasks go in, jobs come out; every engine is used through these alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from harness.runs.status import progress_of
from harness.sweep.definition import Resources
from harness.sweep.places import Places

State = Literal["queued", "running"] | int
"""How far a job is: an int is the exit code of its run, negative if a signal ended it."""

STOPPED = 130
"""The exit code of a run that was interrupted."""


@dataclass(frozen=True)
class Task:
    """A run to be done: `words` are those after `harness` without places, device and threads; `log` takes what the
    run prints; `with_row` is whether it puts a row on a board."""

    words: tuple[str, ...]
    places: Places
    folder: Path
    log: Path
    resources: Resources
    with_row: bool = True

    def command(self, device: str, *more: str) -> list[str]:
        """The words after `harness` that do it from where it is now: from its checkpoint, if it has one."""
        resume = [] if progress_of(self.folder) == "waiting" else ["--resume"]
        threads = ["--threads", str(self.resources.cores)]
        return [*self.words, *self.places.words, *resume, "--device", device, *threads, *more]


def environment(resources: Resources) -> dict[str, str]:
    """The environment of a run's process.

    Its log has lines of any length, whatever the width of the terminal: of an error, the last one is shown.
    """
    own = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return {**own, "OMP_NUM_THREADS": str(resources.cores), "PYTHONUNBUFFERED": "1"}


def say(log: Path, engine: str, why: str) -> None:
    """Makes what an engine says of a run that it lost the last line of the run's log, which is shown."""
    with contextlib.suppress(OSError):  # such as a full disk, of which the sweep will hear otherwise
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"harness: error: {engine}: {why}\n")


class Job(Protocol):
    """A task that an engine has taken."""

    def poll(self) -> State:
        """How far it is."""

    def stop(self) -> None:
        """Asks the run to save and to end, if not at once, then when a job is looked at next; a queued one is taken
        back."""

    def kill(self) -> None:
        """Ends the run at once; what it did since its last checkpoint is lost."""


class Engine(Protocol):
    """Where runs are done."""

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Takes the first of the tasks, as many as there is room for, and returns a job for each of these.

        Raises UserError for what cannot be had, such as a partition that does not exist.
        """

    def close(self) -> None:
        """Gives back what the engine holds; its jobs have ended."""
