"""Runs of a sweep as processes of this machine: as many at once as its cores, memory and GPUs have room for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.records.provenance import cores
from harness.sweep.definition import Resources

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

    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(jobs or cores(), pages / 1e9, torch.cuda.device_count() if torch.cuda.is_available() else 0)


@dataclass
class Process:
    """A run that is under way."""

    process: subprocess.Popen[bytes]
    resources: Resources
    gpu: int | None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

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

    def start(self, words: Sequence[str], resources: Resources, log: Path) -> Process | None:
        """Starts `harness WORDS`, what it prints going to the end of `log`; None while there is no room.

        A run that wants more than there is begins alone.
        """
        self.running = [each for each in self.running if each.poll() is None]
        on_gpu = resources.gpus > 0 and self.machine.gpus > 0
        gpu = self._free_gpu(resources.gpus) if on_gpu else None
        if self.running and not (self._has_room(resources) and (gpu is not None or not on_gpu)):
            return None
        device = "cpu" if gpu is None else f"cuda:{gpu}"
        environment = {**os.environ, "OMP_NUM_THREADS": str(resources.cores), "PYTHONUNBUFFERED": "1"}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness", *words, "--device", device, "--threads", str(resources.cores)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
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
