"""A run on a node of a cluster: the process, and who may ask it to save and to end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness.runs.status import in_use
from harness.sweep import child
from harness.sweep.engine import STOPPED, Task, environment

_PAUSE = 0.2
_WAIT = 5.0
"""Seconds after which a folder that another process works in is looked at again."""


def run_here(
    task: Task,
    gpu: bool,
    place: Path,
    stop_signal: Callable[[], int | None],
    meanwhile: Callable[[], None] = lambda: None,
) -> int:
    """Does a task in the working directory `place`, without a row, and returns its exit code.

    The folder and the log of the task are absolute, or relative to the working directory of this process.
    `stop_signal` gives a signal to send to the run, once, and None while it shall go on; `meanwhile` is called now and
    then.
    A folder that another process works in, such as the job of a sweep that was killed, is waited for.
    """
    while in_use(task.folder):
        if stop_signal() is not None:
            return STOPPED
        time.sleep(_WAIT)
    words = task.command("cuda" if gpu else "cpu", "--no-board")
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("ab") as out:
        process = subprocess.Popen(
            child.command([sys.executable, "-m", "harness", *words]),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(task.resources),
            cwd=place,
        )
    asked = False
    try:
        while process.poll() is None:
            number = stop_signal()
            if number is not None and not asked:
                process.send_signal(number)
                asked = True
            meanwhile()
            time.sleep(_PAUSE)
    finally:  # no run outlives whoever would be told how it ended, and would meet the next try of it
        if process.poll() is None:
            process.kill()
            process.wait()
    return process.returncode
