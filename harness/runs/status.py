"""How far a run is, from its folder alone: light enough for whoever only watches runs or passes them on."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Literal

from harness.util.json_files import read_json

NOTED, CHECKPOINT = "run.json", "checkpoint.safetensors"
"""What a run folder holds of a run that was begun: whose it is and how far it got; tensors to go on from."""

CUT = "budget_cut"
"""The key of an identity that says which limits (--episodes, --time) cut the budget short. They say when a training
ends, not which run it is: an unfinished run goes on under others."""

TRAINED = "trained"
"""The status of a run that was trained and whose test episodes were not scored (--train-only)."""

IN_USE = "is in use by another process"
"""How the error of a run ends whose folder another process holds."""

ENTER_WITHIN, TRY_EVERY = 1.0, 0.02
"""Seconds to get hold of a folder, and between two tries: who only asks whether it is in use holds it for a moment."""

Progress = Literal["waiting", "unfinished", "done"]


def progress_of(folder: Path, train_only: bool = False) -> Progress:
    """How far the run in a folder got, as noted there; with `train_only` it is done once it is trained."""
    noted = folder / NOTED
    if not noted.is_file():
        return "waiting"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if read_json(noted)["status"] in ("done", *((TRAINED, "scoring") if train_only else ())):
            return "done"
    return "unfinished"


def resuming(command: str) -> str:
    """How to go on with the unfinished run that `command`, a command line or a call of Python, started."""
    if command.startswith("harness.run("):
        return f"{command}, with resume=True"
    return re.sub(r" --(resume|fresh)(?=\s|$)", "", command) + " --resume"


def lock_of(folder: Path) -> Path:
    """The file that whoever works in a run folder holds locked; beside it, so that the folder can be set aside."""
    folder = Path(os.path.abspath(folder))  # "." has no name
    return folder.parent / f".{folder.name}.lock"


def in_use(folder: Path) -> bool:
    """Whether a process works in a run folder now, here or on another machine that shares it."""
    from filelock import FileLock, Timeout

    path = lock_of(folder)
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
