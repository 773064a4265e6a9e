"""What a Slurm job runs: one run of a sweep, taken up again after preemption and at the end of the job's time."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from harness.sweep.engine import STOPPED, Task
from harness.sweep.on_node import run_here
from harness.sweep.slurm_commands import state_of_job

_TIME_IS_OVER = signal.SIGUSR2
"""What submitit has Slurm send before the time of a job is over."""


@dataclass
class SlurmRun:
    """A task as submitit takes it: called in the job, it returns the run's exit code.

    Slurm signals all processes of a step, so that the run itself saves and ends at SIGINT (the sweep is being stopped)
    and at SIGTERM (the job is preempted or cancelled). Before the time of the job is over it is asked to from here.
    A job that is still to go on then goes back into the queue, and resumes. `folder` is that of the sweep's jobs.
    """

    task: Task
    gpu: bool
    place: Path
    folder: Path
    received: int | None = None

    def __call__(self) -> int:
        requeue: Any = signal.signal(_TIME_IS_OVER, self._note)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        if stop_file(self.folder, _job_id()).exists():
            return STOPPED
        code = run_here(self.task, self.gpu, self.place, self._stop_signal)
        if code == 0 or self.received in {None, signal.SIGINT}:
            return code
        if self.received == signal.SIGTERM and state_of_job(_job_id()) != "RUNNING":
            sys.exit(1)  # it was cancelled, or Slurm has put it back itself; a result would say that the job is done
        requeue(_TIME_IS_OVER, None)  # submitit's handler, which ends the process
        return code

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue; the run has saved and ended by now."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(SlurmRun(self.task, self.gpu, self.place, self.folder))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None or number == signal.SIGINT:
            self.received = number

    def _stop_signal(self) -> int | None:
        """0, which does nothing to a process, where the run has been signalled by Slurm."""
        if self.received is None:
            return signal.SIGINT if stop_file(self.folder, _job_id()).exists() else None
        return signal.SIGINT if self.received == _TIME_IS_OVER else 0


def stop_file(folder: Path, job: str) -> Path:
    """A file that is there once a job is to stop: a job that has only just begun has no process yet to be signalled."""
    return folder / f"{job}_stop"


def _job_id() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
