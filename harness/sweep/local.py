"""Runs of a sweep as processes of this machine: as many at once as its cores, memory and GPUs have room for."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.records.provenance import cores
from harness.sweep.definition import Resources
from harness.sweep.engine import Job, State, Task, environment
from harness.util.memory import machine_memory

_ENOUGH = 1e-9
"""Shares of a GPU are sums of fractions: three thirds must fit."""


@dataclass(frozen=True)
class Machine:
    """What there is for runs to take."""

    cores: int
    memory_gb: float
    gpus: int


def this_machine(jobs: int | None = None) -> Machine:
    """The cores and the memory that are there (`jobs` cores, if that is given), and the GPUs that torch can use."""
    import torch

    return Machine(
        jobs or cores(), machine_memory() / 1e9, torch.cuda.device_count() if torch.cuda.is_available() else 0
    )


@dataclass
class Process:
    """A run that is under way."""

    process: subprocess.Popen[bytes]
    resources: Resources
    gpu: int | None

    def poll(self) -> State:
        code = self.process.poll()
        return "running" if code is None else code

    def stop(self) -> None:
        """Asks it to save and to end, as Ctrl-C does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


@dataclass
class Local:
    """Starts runs where there is room for them."""

    machine: Machine
    running: list[Process] = field(default_factory=list)

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        """Starts `harness run` of each task while there is room; one that wants more than there is begins alone."""
        started: list[Job] = []
        for task in tasks:
            process = self._start(task)
            if process is None:
                break
            started.append(process)
        return started

    def close(self) -> None:
        pass

    def _start(self, task: Task) -> Process | None:
        resources = task.resources
        self.running = [each for each in self.running if each.poll() == "running"]
        on_gpu = resources.gpus > 0 and self.machine.gpus > 0
        gpu = self._free_gpu(resources.gpus) if on_gpu else None
        if self.running and not (self._has_room(resources) and (gpu is not None or not on_gpu)):
            return None
        words = task.command("cpu" if gpu is None else f"cuda:{gpu}")
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(resources),
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which passes it on once
            )
        started = Process(process, resources, gpu)
        self.running.append(started)
        return started

    def _has_room(self, resources: Resources) -> bool:
        taken = [each.resources for each in self.running]
        return (
            sum(each.cores for each in taken) + resources.cores <= self.machine.cores
            and sum(each.memory_gb for each in taken) + resources.memory_gb <= self.machine.memory_gb
        )

    def _free_gpu(self, share: float) -> int | None:
        """The GPU with most room for a share, a run of several GPUs counting as one whole; None if none has."""
        taken = [sum(min(each.resources.gpus, 1.0) for each in self.running if each.gpu == n) for n in self._gpus()]
        best = min(self._gpus(), key=lambda n: taken[n])
        return best if taken[best] + min(share, 1.0) <= 1 + _ENOUGH else None

    def _gpus(self) -> range:
        return range(self.machine.gpus)
