"""Runs on nodes leave folders; their rows are put on the boards here, by the machine that drives the sweep."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.runs.status import progress_of
from harness.sweep.definition import Resources
from harness.sweep.engine import STOPPED, Engine, Job, State, Task
from harness.sweep.local import Local, Machine


@dataclass
class Publishing:
    """An engine whose jobs are done once their rows are on the boards.

    A row is what `harness run ... --resume` of a finished run appends, one such process after another: no node has to
    reach the boards, and file locks need not work between machines. A folder that was left finished, but without its
    row, is not sent to a node again.
    """

    nodes: Engine
    publisher: Local = field(default_factory=lambda: Local(Machine(cores=1, memory_gb=math.inf, gpus=0)))

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        done = list(itertools.takewhile(_is_done, tasks))
        if done:
            return [_Job(task, None, self.publisher) for task in done]
        missing = list(itertools.takewhile(lambda task: not _is_done(task), tasks))
        return [_Job(task, job, self.publisher) for task, job in zip(missing, self.nodes.submit(missing), strict=False)]

    def close(self) -> None:
        self.nodes.close()


def _is_done(task: Task) -> bool:
    return task.with_row and progress_of(task.folder) == "done"


@dataclass
class _Job:
    """A run on a node (None if it is finished), and then the process that publishes it."""

    task: Task
    run: Job | None
    publisher: Local
    row: Job | None = None
    stopped: bool = False

    def poll(self) -> State:
        if self.row is None:
            state = 0 if self.run is None else self.run.poll()
            if state != 0:
                return state
            if not self.task.with_row:
                return state
            if self.stopped:
                return STOPPED
            started = self.publisher.submit([dataclasses.replace(self.task, resources=Resources())])
            if not started:
                return "running"
            self.row = started[0]
        return self.row.poll()

    def stop(self) -> None:
        self.stopped = True
        under_way = self.row or self.run
        if under_way is not None:
            under_way.stop()

    def kill(self) -> None:
        under_way = self.row or self.run
        if under_way is not None:
            under_way.kill()
