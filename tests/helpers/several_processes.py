"""Runs by several processes, as torchrun starts them: a program, for test_several_processes.py.

    python -m tests.helpers.several_processes FOLDER [CASE...]     prints one JSON object

Torch is imported once and every process is a fork, as in signalled_runs.py. Whoever has not ended in time is killed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

import harness as h
from harness import cli
from harness.episodes.source import EpisodeSource
from harness.records import provenance
from harness.records.parts import Code
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.training import selection
from harness.training.stages import RunningStage
from harness.util.errors import RunError
from tests.helpers import runs as tiny_runs
from tests.helpers.signalled_runs import replaced

WHOLE = tiny_runs.words("late", "--no-board", "--batch", "3", "--device", "cpu")
LATE = [*WHOLE, "--train-only"]
SHARED = [*tiny_runs.words("support"), *LATE[len(tiny_runs.words("late")) :]]
REPTILE = [*SHARED[:2], "--method", "reptile", "--recipe", "reptile.yaml", *SHARED[6:]]
OPN = [*LATE[:2], "--method", "opn", "--recipe", "opn.yaml", *LATE[6:]]
RECIPE = """\
method: METHOD
parts:
  - smoke: {options: {OPTIONS}, batch: 2, stages: [{name: all, episodes: 9}]}
"""
OPTIONS = {
    "reptile": "net: dense, channels: 4, resolution: 4, inner_steps: 2, test_steps: 1",
    "opn": "channels: 4, mean_over: steps",
}
AGENT = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
"""That the launcher keeps the store in which processes find each other, as torchrun does: for several runs."""

SECONDS = 60
HUNG = -99
"""The code of a process that had not ended by then."""


@dataclass(frozen=True)
class Event:
    """What happens to process `rank` within its numbered update, or in the first validation (0)."""

    rank: int
    update: int
    what: str


def happen(what: str) -> None:
    if what == "error":
        raise RunError("no luck today")
    os.kill(os.getpid(), getattr(signal, what))


def install(event: Event) -> None:
    advance, look, updates = RunningStage.advance, selection.Selection.look, 0

    def counted_advance(*args: Any) -> bool:
        nonlocal updates
        updates += 1
        if updates == event.update:
            happen(event.what)
        return advance(*args)

    def eventful_look(*args: Any) -> None:
        if not event.update:
            happen(event.what)
        look(*args)

    replaced(RunningStage, "advance", counted_advance)
    replaced(selection.Selection, "look", eventful_look)


def use_float64() -> None:
    """Weights, images and everything between are of 64 bits."""
    torch.set_default_dtype(torch.float64)
    gathered = EpisodeSource._gathered
    replaced(EpisodeSource, "_gathered", lambda *args: gathered(*args).double())


def called_twice() -> int:
    """Two runs of a script; what came of them."""
    for seed in (0, 1):
        result = h.run(
            "late.yaml",
            "cl_lstm",
            recipe="cl_lstm.yaml",
            budget="smoke",
            seeds=seed,
            threads=1,
            device="cpu",
            cache="cache",
            board=False,
            quiet=True,
        )
        print(seed, result.metrics["accuracy"].mean, result.record.marks)
    return 0


def forked(words: Sequence[str], environment: dict[str, str], event: Event | None, double: bool) -> int:
    """The process id of a fork that gives a command, or where there are no words runs a script."""
    child = os.fork()
    if child:
        return child
    try:
        rank = environment.get("RANK", "0")
        out = os.open(f"said{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.update(environment)
        sys.argv = ["harness", *words]
        if double:
            use_float64()
        if event is not None and event.rank == int(rank):
            install(event)
        tiny_runs.save_every(1e9 if event is None else 0)
        code = cli.main(list(words)) if words else called_twice()
        sys.stdout.flush()
        os._exit(code)
    except BaseException as error:  # a fork must never go on as the test does
        print(f"Traceback: {error!r}", file=sys.stderr, flush=True)
        os._exit(98)


def run_by(world: int, words: Sequence[str], event: Event | None = None, double: bool = False) -> dict[str, Any]:
    """How so many processes ended that were given a command in this folder: codes, words, seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began, children = time.monotonic(), []
    for rank in range(world):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
        whole = {**own, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if world > 1 else {}
        whole |= {} if words else AGENT
        children.append(forked(words, whole, event, double))
    store = None if words else TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    codes: dict[int, int] = {}
    while len(codes) < world:
        for child in children:
            if child not in codes and (ended := os.waitpid(child, os.WNOHANG))[0]:
                codes[child] = os.waitstatus_to_exitcode(ended[1])
        if time.monotonic() - began > SECONDS:
            for child in set(children) - codes.keys():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                codes[child] = HUNG
        time.sleep(0.01)
    del store
    said = [Path(f"said{rank}").read_text() for rank in range(world)]
    return {"codes": [codes[child] for child in children], "said": said, "seconds": time.monotonic() - began}


def in_folder(folder: Path, *runs: dict[str, Any]) -> dict[str, Any]:
    """Runs one after another in a new folder."""
    os.chdir(tiny_runs.written(folder))
    for method, options in OPTIONS.items():
        Path(f"{method}.yaml").write_text(RECIPE.replace("METHOD", method).replace("OPTIONS", options))
    found = [run_by(**each) for each in runs]
    return {"runs": found, "folder": str(folder)}


def main(root: Path, *names: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    replaced(resolve, "load_dataset", lambda name, **_: tiny_dataset(name))
    replaced(provenance, "code", lambda: Code(revision=None, dirty=None))
    words, averaged = LATE, [*LATE, "--override", "ema_decay=0.6"]
    again = [*averaged, "--resume"]
    cases: dict[str, list[dict[str, Any]]] = {
        "one": [{"world": 1, "words": words}],
        "two": [{"world": 2, "words": WHOLE}],
        "one in float64": [{"world": 1, "words": averaged, "double": True}],
        "two in float64": [{"world": 2, "words": averaged, "double": True}],
        "resumed": [
            {"world": 2, "words": averaged, "double": True, "event": Event(1, 2, "SIGTERM")},
            {"world": 1, "words": again, "double": True, "event": Event(0, 1, "SIGINT")},
            {"world": 2, "words": again, "double": True},
        ],
        "shared by one": [{"world": 1, "words": SHARED, "double": True}],
        "shared by two": [
            {"world": 2, "words": SHARED, "double": True},
            {"world": 2, "words": [*SHARED, "--out", "again"], "double": True},
        ],
        "buffers of one": [{"world": 1, "words": REPTILE, "double": True}],
        "buffers of two": [{"world": 2, "words": REPTILE, "double": True}],
        "steps of one": [{"world": 1, "words": OPN, "double": True}],
        "steps of two": [{"world": 2, "words": OPN, "double": True}],
        "killed": [{"world": 2, "words": words, "event": Event(1, 3, "SIGKILL")}],
        "first killed": [{"world": 2, "words": words, "event": Event(0, 3, "SIGKILL")}],
        "failed": [{"world": 2, "words": words, "event": Event(1, 3, "error")}],
        "first failed": [{"world": 2, "words": words, "event": Event(0, 3, "error")}],
        "first failed in validation": [{"world": 2, "words": words, "event": Event(0, 0, "error")}],
        "refused": [{"world": 3, "words": tiny_runs.words("late", "--no-board")}],
        "from Python": [{"world": 2, "words": []}],
        "several seeds": [{"world": 2, "words": [*words, "--seeds", "0-1"]}],
    }
    return {name: in_folder(root / name, *runs) for name, runs in cases.items() if name in (names or cases)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))
