"""A tiny sweep, driven by any engine in a process of its own, and what must be the same whichever it was."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.boards.store import read_board
from harness.runs.status import CHECKPOINT
from harness.sweep.definition import Resources
from harness.sweep.expand import SweepRun
from tests.helpers import runs as tiny_runs

SWEEP = """\
data: stand-in
budgets: [smoke]
runs:
  - {protocols: [late.yaml], methods: [cl_lstm], recipe: cl_lstm.yaml, seeds: [0, 1]}
  - {protocols: [late.yaml], methods: [copy_last], priority: 1}
"""
ONE = """\
data: stand-in
budgets: [smoke]
runs: [{protocols: [late.yaml], methods: [cl_lstm], recipe: cl_lstm.yaml}]
"""
"""The first training of that alone."""
TWO = ONE.replace("cl_lstm.yaml}", "cl_lstm.yaml, seeds: [0, 1]}")
"""Both of them."""
LONGER = ("name: all, episodes: 6", "name: all, episodes: 100")
"""So that a run has a few seconds of training left when it is seen to have saved a checkpoint."""
OWN = ("finished", "train_seconds", "score_seconds", "command", "sha256")
"""What a row says of when and how its run was begun, which is not of what came out, and its hash."""
SCORES = "runs/*/*/scores.npz"


def plain_run(seed: int = 0, resources: Resources | None = None) -> SweepRun:
    """A run of a sweep that names nothing there is, for what never begins it."""
    return SweepRun(
        protocol="p",
        method="m",
        options={},
        budget="smoke",
        seed=seed,
        data="real",
        recipe=None,
        overrides={},
        seconds=None,
        episodes=None,
        test_episodes=None,
        priority=0,
        resources=resources or Resources(),
    )


def written(folder: Path, sweep: str = SWEEP) -> Path:
    """A new working directory with the sweep file `grid.yaml`."""
    tiny_runs.written(folder)
    recipe = folder / "cl_lstm.yaml"
    recipe.write_text(recipe.read_text().replace(*LONGER))
    (folder / "grid.yaml").write_text(sweep)
    return folder


def environment(**more: str) -> dict[str, str]:
    """The environment of a command that is run elsewhere, with this checkout on its path."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def command(cache: Path, *words: str) -> list[str]:
    """`harness sweep grid.yaml`."""
    own = [sys.executable, "-m", "harness", "sweep", "grid.yaml", "--cache", str(cache), "--boards", "boards"]
    return [*own, *words]


def started(place: Path, cache: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """`harness sweep grid.yaml` in a working directory."""
    return subprocess.Popen(
        command(cache, *words),
        cwd=place,
        env=env or environment(),
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


def until(condition: Callable[[], Any], seconds: float = 900) -> Any:
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return value


def process_of(place: Path, run: str, on_node: bool = True) -> int | None:
    """The process of a run of a sweep, such as "cl_lstm-smoke-s1", if it is at work and has saved a checkpoint: which
    it is asked to do when its last stage has begun."""
    process = _process_of(place, run, on_node)
    if process is None or any(place.glob(f"runs/late/{run}-*/{CHECKPOINT}")):
        return process
    if any('"stage": "all"' in log.read_text() for log in place.glob(f"runs/late/{run}-*/log.jsonl")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGUSR1)
    return None


def _process_of(place: Path, run: str, on_node: bool) -> int | None:
    method, _, seed = run.partition("-smoke-s")
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = status.read_bytes().decode(errors="replace").split("\0")
            if method not in words or "run" not in words or (status.parent / "cwd").readlink() != place.resolve():
                continue
            if words[words.index("--seed") + 1] == seed and ("--no-board" in words) == on_node:
                return int(status.parent.name)
    return None


def tries(place: Path, run: str) -> int:
    """How often a run was begun by the driver of a sweep."""
    noted = place / "runs" / "sweeps" / "grid" / "sweep.json"
    found = json.loads(noted.read_text()) if noted.is_file() else []
    return sum(each["tries"] for each in found if f"/{run}-" in each["folder"])


def parent_of(process: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def kill(process: int) -> None:
    """Ends a process at once; it may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def same(place: Path, other: Path) -> int:
    """Asserts that the runs of a sweep, each once on its board, are those of another sweep that has these and more;
    how many they are."""
    mine, theirs = {_name(row): row for row in rows(place)}, {_name(row): row for row in rows(other)}
    assert mine == {name: theirs[name] for name in mine}
    found, wanted = scores(place), scores(other)
    assert found.keys() == mine.keys()
    assert [name for name in found if found[name] != wanted[name]] == []
    return len(mine)


def rows(place: Path) -> list[dict[str, Any]]:
    """The rows of a sweep without times, in the order of their runs; the boards must be whole, with each run once."""
    found = []
    for path in place.glob("boards/stand_in/*.jsonl"):
        assert not read_board(path).problems
        found += [json.loads(line) for line in path.read_text().splitlines()]
    found = [{name: value for name, value in row.items() if name not in OWN} for row in found]
    for row in found:  # which of the runs that share features trained them, and how long that took
        row["pretrained"] = [
            {name: value for name, value in each.items() if name not in {"reused", "seconds"}}
            for each in row["pretrained"]
        ]
    names = [_name(row) for row in found]
    assert len(set(names)) == len(names), names
    return sorted(found, key=_name)


def scores(place: Path) -> dict[str, bytes]:
    """The scores of each run: bit for bit what it computed."""
    return {f"{path.parent.parent.name}/{path.parent.name}": path.read_bytes() for path in place.glob(SCORES)}


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['protocol']}/{row['run']}"
