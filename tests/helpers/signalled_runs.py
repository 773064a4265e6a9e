"""Runs that get a signal at a chosen moment: a program, for test_signals.py.

    python -m tests.helpers.signalled_runs FOLDER      prints one JSON object

Torch is imported once and every run is a fork, as in killed_runs.py. Every validation has two batches.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import cli
from harness.evaluation import evaluate
from harness.records import provenance
from harness.records.parts import Code
from harness.runs import resolve, run
from harness.testing import tiny_dataset
from harness.training import selection
from harness.training.stages import RunningStage
from tests.helpers import runs as tiny_runs
from tests.helpers.killed_runs import ended

UPDATE, VALIDATION, SCORING = "update", "validation", "scoring"


@dataclass(frozen=True)
class Case:
    """A signal that comes in the numbered update, or in the first batch of the numbered validation or of scoring."""

    signal: str
    during: str
    number: int = 1
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.signal}-{self.during}-{self.number}"


CUT = ("--episodes", "14")
"""Then the last weights are looked at when the training is over."""

CASES = (
    Case("SIGTERM", UPDATE, 4),
    Case("SIGHUP", UPDATE, 7),
    Case("SIGINT", VALIDATION),
    Case("SIGTERM", VALIDATION, 2),
    Case("SIGHUP", VALIDATION),
    Case("SIGTERM", VALIDATION, 3, CUT),
    Case("SIGTERM", SCORING),
    Case("SIGHUP", SCORING),
    Case("SIGUSR1", UPDATE, 4),
    Case("SIGUSR1", VALIDATION, 2),
    Case("SIGUSR1", SCORING),
)


class Counter:
    """Sends the signal of a case to this process at its moment, and notes what still happens after it.

    After SIGUSR1 the process is killed at the next moment but one, so that only what was saved at once is left.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.phase = case, UPDATE
        self.updates = self.validations = self.scorings = 0
        self.after: list[str] | None = None

    def moment(self, what: str, number: int) -> None:
        if self.after is not None:
            self.after.append(what)
            if self.case.signal == "SIGUSR1" and self.case.during != SCORING and len(self.after) == 2:
                self.note()
                os.kill(os.getpid(), signal.SIGKILL)
        elif (what, number) == (self.case.during, self.case.number):
            self.after = []
            os.kill(os.getpid(), getattr(signal, self.case.signal))

    def note(self) -> None:
        Path("after").write_text(json.dumps(self.after), encoding="utf-8")

    def install(self) -> None:
        advance, look, score_batch, whole = (
            RunningStage.advance,
            selection.Selection.look,
            evaluate.score_batch,
            run.evaluate,
        )

        def counted_advance(*args: Any) -> bool:
            self.updates += 1
            self.moment(UPDATE, self.updates)
            return advance(*args)

        def counted_look(*args: Any) -> None:
            self.phase, self.validations = VALIDATION, self.validations + 1
            try:
                look(*args)
            finally:
                self.phase = UPDATE

        def counted_batch(*args: Any) -> Any:
            self.moment(self.phase, self.validations if self.phase == VALIDATION else self.scorings)
            return score_batch(*args)

        def counted_scoring(*args: Any, **options: Any) -> Any:
            self.phase, self.scorings = SCORING, self.scorings + 1
            return whole(*args, **options)

        replaced(RunningStage, "advance", counted_advance)
        replaced(selection.Selection, "look", counted_look)
        replaced(evaluate, "score_batch", counted_batch)
        replaced(run, "evaluate", counted_scoring)


def replaced(owner: Any, name: str, value: Any) -> None:
    """Puts something else in the place of an attribute; these processes are of this file alone."""
    setattr(owner, name, value)


def forked(folder: Path, case: Case | None, words: tuple[str, ...], resume: bool) -> int:
    """The exit code of a run in a fork, or minus the signal that killed it."""
    child = os.fork()
    if child:
        return ended(child)
    try:
        os.chdir(folder)
        out = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        counter = Counter(case or Case("", ""))
        counter.install()
        tiny_runs.save_every(1e9)
        code = cli.main(tiny_runs.words("late", "--no-board", *words, *(["--resume"] if resume else [])))
        counter.note()
        sys.stdout.flush()
        os._exit(code)
    except BaseException as error:  # a fork must never go on as the test does
        print(f"Traceback: {error!r}", file=sys.stderr, flush=True)
        os._exit(99)


def main(root: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    replaced(resolve, "load_dataset", lambda name, **_: tiny_dataset(name))
    replaced(provenance, "code", lambda: Code(revision=None, dirty=None))
    replaced(evaluate, "BATCH", 1)
    results: dict[str, Any] = {}
    for words in ((), CUT):
        folder = tiny_runs.written(root / f"whole{len(words)}")
        if code := forked(folder, None, words, False):
            raise SystemExit(f"the undisturbed run ended with {code}:\n{(folder / 'said').read_text()}")
    for case in CASES:
        folder = tiny_runs.written(root / case.name)
        code = forked(folder, case, case.words, False)
        found = {"code": code, "after": json.loads((folder / "after").read_text()), "folder": str(folder)}
        found["checkpoint"] = (tiny_runs.run_folder(folder) / "checkpoint.safetensors").is_file()
        found["resumed"] = forked(folder, None, case.words, True) if code else None
        results[case.name] = {
            **found,
            "whole": str(root / f"whole{len(case.words)}"),
            "said": (folder / "said").read_text(),
        }
    return results


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
