"""Updates of training, or scoring, in two checkouts of the project, in turns: what `training.py --against` prints.

Run as a script, it is the one side of it: it makes an update (or scores episodes) whenever a line on its standard input
names a case, and answers with a line of JSON. There is one such process a checkout, with that checkout's harness; only
one of them works at a time. It finds its way in the flat layout that harness/ had up to commit c89d723, too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

WARM = {"cpu": 1, "cuda": 6}
"""Updates of each case before the first that counts, by type of device; on a GPU they are recorded meanwhile."""

SCORED = 50
"""Episodes that are scored at once."""


@dataclass(frozen=True)
class Case:
    """What is trained: the last stage of a recipe, on random pixels, by one seed; at `batch` episodes an update where
    that is given, and at another `precision` than the recipe's. With `scoring`, the method that it begins with is
    scored instead."""

    name: str
    method: str
    protocol: str
    options: dict[str, Any]
    budget: str
    scoring: bool = False
    device: str = "cpu"
    batch: int | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Update:
    """Seconds (of CPU time on a CPU, of the clock on a GPU) of an update (plan, gather, loss, gradient, step) or of
    scoring, its episodes, and the method's parameters."""

    seconds: float
    episodes: int
    parameters: int


# One side


def updates_of(case: Case) -> Callable[[], Update]:
    """What makes one update of a case, by the harness that this process imports."""
    import numpy as np
    import torch

    try:
        from harness.data.dataset import Dataset, card_table
        from harness.episodes.source import EpisodeSource
        from harness.evaluation.evaluate import evaluate
        from harness.protocol.load import load_protocol
        from harness.training.recipe_file import load_budget, recipe_path
        from harness.training.stages import begin_stage
        from harness.training.state import Progress, Training
        from harness.util.shipped_files import protocol_files
        from harness.method.registry import build_method, load_method, task_for  # isort: skip
    except ModuleNotFoundError:
        from harness.evaluate import evaluate
        from harness.load import load_protocol
        from harness.recipe import load_budget, recipe_path
        from harness.registry import build_method, load_method, task_for
        from harness.shipped import protocol_files
        from harness.train import Progress, Training

        from harness import stages, train
        from harness.data.dataset import Dataset, card_table
        from harness.episodes import EpisodeSource

        begin_stage = None

    loaded, found = load_protocol(protocol_files()[case.protocol]), load_method(case.method)
    card = loaded.protocol.card
    budget = load_budget(recipe_path(case.method, found.own_file), loaded, case.budget)
    last = budget.stages[-1].model_copy(update={"batch": case.batch or budget.stages[-1].batch or budget.batch})
    changes = {"precision": case.precision} if case.precision else {}
    budget = budget.model_copy(update={"stages": [*budget.stages[:-1], last], **changes})
    task = task_for(found.cls, loaded.protocol, card.image_shape, card.classes["train"])
    device = torch.device(case.device)
    method = build_method(found.cls, task, {**budget.options, **case.options}, 0, device).train()
    table = card_table(card, "train")
    images = np.random.default_rng(0).integers(0, 256, (int(table.members.max()) + 1, *card.image_shape), np.uint8)
    source = EpisodeSource(Dataset(card, images, (), {"train": table}, "", "random pixels"), device)
    training = Training(method, source, loaded.protocol, budget, 0, Path(tempfile.gettempdir(), "none"), {})
    number = len(budget.stages) - 1
    progress, size = Progress(stage=number), last.batch
    parameters = sum(each.numel() for each in method.parameters())
    if case.scoring:
        size = SCORED
        advance = lambda: evaluate(method, source, loaded.protocol, "train", SCORED)  # noqa: E731
    elif begin_stage is None:
        stage = stages.begun(training, number)
        advance = lambda: train._update(training, progress, stage)  # noqa: E731
    else:
        running = begin_stage(training, number)
        advance = lambda: running.advance(progress)  # noqa: E731

    def update() -> Update:
        if device.type == "cpu":
            start = time.process_time()
            advance()
            return Update(time.process_time() - start, size, parameters)
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        advance()
        torch.cuda.synchronize(device)
        return Update(time.perf_counter() - start, size, parameters)

    return update


def serve(lines: IO[str], answers: IO[str]) -> None:
    """Makes an update for each line, which is a case as JSON, until there are no more."""
    import torch

    try:
        from harness.util.allocator import keep_freed_memory
    except ModuleNotFoundError:
        from harness.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()  # as every run does, there and here
    known: dict[str, Callable[[], Update]] = {}
    for line in lines:
        if line not in known:
            case = Case(**json.loads(line))
            known[line] = updates_of(case)
            for _ in range(WARM[torch.device(case.device).type]):
                known[line]()
        answers.write(json.dumps(asdict(known[line]())) + "\n")
        answers.flush()


# Both sides


class Side:
    """A process that makes updates with the harness of a checkout."""

    def __init__(self, checkout: Path) -> None:
        path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).absolute())]
        self.process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def update(self, case: Case) -> Update:
        """One update; SystemExit where the process ended instead, which has then said why."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asdict(case)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{case.name}: the checkout {self.process.args} could not make an update")
        return Update(**json.loads(answer))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compared(cases: Sequence[Case], own: Path, other: Path, rounds: int) -> list[list[str]]:
    """A row for each case: its batch, milliseconds an episode in the other checkout and in the own, and the ratio.

    The two make an update each in every round, the other checkout at its recipe's precision; figures and ratio are
    medians over the rounds. SystemExit where a case is not of the same size in both.
    """
    sides = Side(other), Side(own)
    rows = []
    try:
        for case in cases:
            both = replace(case, precision=None), case
            pairs = [tuple(side.update(each) for side, each in zip(sides, both, strict=True)) for _ in range(rounds)]
            before, after = pairs[0]
            if before.parameters != after.parameters:
                raise SystemExit(f"{case.name} has {before.parameters} parameters there and {after.parameters} here")
            spent = [[1e3 * each.seconds / each.episodes for each in pair] for pair in pairs]
            there, here = (statistics.median(each[n] for each in spent) for n in (0, 1))
            ratio = statistics.median(each[0] / each[1] for each in spent)
            rows.append([case.name, case.protocol, str(after.episodes), f"{there:.3g}", f"{here:.3g}", f"{ratio:.2f}"])
            print(f"{case.name}: {rows[-1][-1]} times as fast", flush=True)
    finally:
        for side in sides:
            side.close()
    return rows


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
