"""A run on a node ends with whoever started it, and hears signals whatever its parent does with them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.sweeps import environment, until

PARENT = """
import signal, subprocess
from harness.sweep import child
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen(child.command(["sleep", "600"])).pid, flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_child_hears_signals_and_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment())
    assert parent.stdout is not None
    folder = Path("/proc") / parent.stdout.readline().strip()
    until(lambda: (folder / "comm").read_text() == "sleep\n")
    masks = dict(line.split(":\t") for line in (folder / "status").read_text().splitlines())
    assert int(masks["SigBlk"], 16) == 0
    ignored = int(masks["SigIgn"], 16)
    assert not ignored & (1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1)
    assert ignored & 1 << signal.SIGUSR2 - 1  # what Slurm sends to all processes before the time of a job is over
    parent.kill()
    parent.wait()
    until(lambda: not folder.exists() or "\nState:\tZ" in (folder / "status").read_text())
