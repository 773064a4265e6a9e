"""Runs that are killed (SIGKILL) again and again and resumed until they are done: a program, for test_killed_runs.py.

    python -m tests.helpers.killed_runs FOLDER KILLS SEED      prints one JSON object

Torch is imported once and every run is a fork. A run has numbered moments: before and after every update, before every
scored batch, half-way through every file, before and after every rename, half-way through the board's new line. The
undisturbed run counts them; the others are killed at drawn ones, or by the clock.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import filelock  # noqa: F401 - what runs import late, so that no fork has to
import numpy as np
import pandas as pd  # noqa: F401
import rich.progress  # noqa: F401
import safetensors.torch
import tabulate  # noqa: F401
import torch

import methods.cl_lstm  # noqa: F401
import methods.ppa  # noqa: F401
from harness import cli
from harness.boards import store
from harness.evaluation import evaluate
from harness.records import provenance
from harness.records.parts import Code
from harness.runs import resolve, run
from harness.testing import tiny_dataset
from harness.training import stages
from harness.util import atomic_files
from tests.helpers import runs as tiny_runs


class Moments:
    """Counts the moments of this process, and ends it at one of them."""

    def __init__(self, fatal: int | None, note: Path) -> None:
        self.fatal, self.note = fatal, note
        self.phase, self.seen = "training", 0

    def __call__(self, what: str = "") -> None:
        self.seen += 1
        if self.seen == self.fatal:
            self.note.write_text(what or self.phase)
            os.kill(os.getpid(), signal.SIGKILL)


def instrument(moment: Moments) -> None:
    """Puts moments into this process, which is a fork of its own."""

    def around(function: Callable[..., Any], what: str = "", phase: str = "") -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            moment.phase = phase or moment.phase
            moment(what)
            found = function(*args, **options)
            moment(what)
            return found

        return wrapped

    def save_half(save: Callable[..., None], tensors: Any, path: Path, **options: Any) -> None:
        save(tensors, path, **options)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        moment("writing")
        path.write_bytes(whole)

    def write_half(write: Callable[..., int], path: Path, text: str, *rest: Any, **options: Any) -> int:
        write(path, text[: len(text) // 2], *rest, **options)
        if ".tmp-" in path.name:
            moment("writing")
        return write(path, text, *rest, **options)

    def append_half(append: Callable[..., None], file: Any, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        moment("writing")
        file.truncate(os.fstat(file.fileno()).st_size - len(data) // 2)
        append(file, data)

    stages.RunningStage.advance = around(stages.RunningStage.advance)  # type: ignore[method-assign]
    run.evaluate = around(run.evaluate, phase="scoring")
    evaluate.score_batch = around(evaluate.score_batch)
    np.savez_compressed = around(np.savez_compressed, "writing")
    atomic_files.os.replace = around(os.replace, "writing")
    safetensors.torch.save_file = partial(save_half, safetensors.torch.save_file)
    Path.write_text = partial_method(write_half, Path.write_text)  # type: ignore[method-assign]
    store._append = partial(append_half, store._append)


def partial_method(function: Callable[..., Any], inner: Callable[..., Any]) -> Any:
    return lambda self, *args, **options: function(inner, self, *args, **options)


def forked(folder: Path, protocol: str, save_seconds: float, resume: bool, fatal: int | None) -> int:
    """Begins or resumes a run in `folder` in a fork; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        os.chdir(folder)
        out = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        moment = Moments(fatal, Path("killed while").absolute())
        instrument(moment)
        tiny_runs.save_every(save_seconds)
        code = cli.main(tiny_runs.words(protocol, *(["--resume"] if resume else [])))
        with Path("moments").open("w") as file:
            file.write(str(moment.seen))
        sys.stdout.flush()
        os._exit(code)
    except BaseException as error:  # a fork must never go on as the test does
        print(f"Traceback: {error!r}", file=sys.stderr, flush=True)
        os._exit(99)


def ended(child: int) -> int:
    """Waits for a fork; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root: Path, kills: int, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    resolve.load_dataset = lambda name, **_: tiny_dataset(name)
    provenance.code = lambda root=None: Code(revision=None, dirty=None)
    evaluate.BATCH = 2
    chains: list[dict[str, Any]] = []
    drawn, left = random.Random(seed), kills
    wholes: dict[str, tuple[int, float]] = {}
    for protocol in tiny_runs.RUNS:
        folder = tiny_runs.written(root / f"whole-{protocol}")
        began = time.monotonic()
        if code := ended(forked(folder, protocol, 0.0, False, None)):
            raise SystemExit(f"the undisturbed run ended with {code}:\n{(folder / 'said').read_text()}")
        wholes[protocol] = int((folder / "moments").read_text()), time.monotonic() - began
    while left:
        protocol = list(tiny_runs.RUNS)[len(chains) % 2]
        moments, seconds = wholes[protocol]
        folder = tiny_runs.written(root / f"killed-{len(chains)}")
        save_seconds = drawn.choice([0.0, 0.0, 0.1, 1e9])
        chain: dict[str, Any] = {"folder": str(folder), "whole": str(root / f"whole-{protocol}"), "killed": []}
        chains.append(chain)
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            again = bool(chain["killed"])
            killing = left > 0 and len(chain["killed"]) < 4
            clock = killing and len(chains) > 1 and drawn.random() < 0.25
            # What is saved is not seen again, so a resumed run has fewer moments. The first run of all has but one.
            last = 1 if len(chains) == 1 else moments // 2 if again else moments
            at = drawn.randint(1, last) if killing and not clock else None
            exists = any(each.is_dir() for each in folder.glob("runs/*/*"))  # else there is nothing to resume
            child = forked(folder, protocol, save_seconds, again and exists, at)
            if clock:
                time.sleep(drawn.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
            code = ended(child)
            if code == -signal.SIGKILL:
                chain["killed"].append("by the clock" if clock else (folder / "killed while").read_text())
                left -= 1
        chain |= {"code": code, "said": (folder / "said").read_text()}
    return {"moments": {protocol: moments for protocol, (moments, _) in wholes.items()}, "chains": chains}


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(found))
