"""`python -m harness.sweep.child PARENT PROGRAM WORDS...`: becomes that program, which ends with its parent.

On a node of a cluster a run is the child of a worker or of a batch job. If that is killed, another one takes the run up
again, and must not meet the first one still at work.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def command(program: Sequence[str]) -> list[str]:
    """The command line by which a program becomes such a child of this process."""
    return [sys.executable, "-m", "harness.sweep.child", str(os.getpid()), *program]


def main(argv: Sequence[str]) -> None:
    """Never returns: the process becomes another program."""
    parent, *program = argv
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):  # it ended before the kernel was asked to tell
            raise SystemExit(1)
    # Workers of Ray block signals, and pass that on; without them a run could not be asked to save and to end.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    # Before the time of a job is over Slurm sends this one to all its processes; the one that waits for the run acts.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    os.execvp(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
