"""A tiny sweep, driven by any engine in a process of its own, and what must be the same whichever it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.boards.store import read_board
from tests.helpers import runs as tiny_runs

SWEEP = """\
data: stand-in
budgets: [smoke]
runs:
  - {protocols: [late.yaml], methods: [cl_lstm], recipe: cl_lstm.yaml, seeds: [0, 1]}
  - {protocols: [late.yaml], methods: [copy_last], priority: 1}
"""
OWN = ("finished", "train_seconds", "score_seconds", "command", "sha256")
"""What a row says of when and how its run was begun, which is not of what came out, and its hash."""


def written(folder: Path) -> Path:
    """A new working directory with the sweep file `grid.yaml`."""
    tiny_runs.written(folder)
    (folder / "grid.yaml").write_text(SWEEP)
    return folder


def environment(**more: str) -> dict[str, str]:
    """The environment of a command that is run elsewhere, with this checkout on its path."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def started(place: Path, cache: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`harness sweep grid.yaml` in a working directory."""
    command = [
        sys.executable,
        "-m",
        "harness",
        "sweep",
        "grid.yaml",
        "--cache",
        str(cache),
        "--boards",
        "boards",
        *words,
    ]
    return subprocess.Popen(
        command,
        cwd=place,
        env=environment() if env is None else dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def swept(place: Path, cache: Path, *words: str, env: Mapping[str, str] | None = None) -> str:
    """What a sweep that ends well prints."""
    sweep = started(place, cache, *words, env=env)
    said, _ = sweep.communicate(timeout=900)
    assert sweep.returncode == 0, said
    return said


def until(condition: Callable[[], Any], seconds: float = 300) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


def rows(place: Path) -> list[dict[str, Any]]:
    """The rows of a sweep without times, in the order of their runs; the board must be whole, each run on it once."""
    path = place / "boards" / "stand_in" / "late.jsonl"
    assert not read_board(path).problems
    found = [json.loads(line) for line in path.read_text().splitlines()]
    found = [{name: value for name, value in row.items() if name not in OWN} for row in found]
    names = [row["run"] for row in found]
    assert len(set(names)) == len(names) == 3, names
    return sorted(found, key=lambda row: str(row["run"]))


def scores(place: Path) -> dict[str, bytes]:
    """The scores of each run: bit for bit what it computed."""
    return {path.parent.name: path.read_bytes() for path in place.glob("runs/late/*/scores.npz")}
