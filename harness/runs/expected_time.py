"""How long a run takes on this machine: as a finished run recorded it, or measured now; no other number is given."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evaluation.evaluate import evaluate
from harness.records.parts import Hardware
from harness.records.record import Record
from harness.runs.folder import RECORD, read_log_entries, read_record
from harness.runs.resolve import Prepared
from harness.runs.run import training_of
from harness.training.recipe import Budget, Stage
from harness.training.selection import validation_protocol
from harness.training.stages import RunningStage, begin_stage
from harness.training.state import Progress
from harness.util.errors import UserError
from harness.util.threads import torch_threads

FEWEST_UPDATES = 2
"""Updates of a stage that are timed at least; the first one, which allocates memory, is not among them."""


@dataclass(frozen=True)
class StageTime:
    """The time of one stage in seconds, its validations included where it was recorded, for so many updates."""

    name: str
    updates: int
    seconds: float


@dataclass(frozen=True)
class ExpectedTime:
    """The time of a run in seconds. `at_most` is whether stages may end before it, at a loss that they wait for.

    `validations` is None where they are within the stages.
    """

    source: str
    stages: tuple[StageTime, ...]
    validations: float | None
    scoring: float
    at_most: bool

    @property
    def seconds(self) -> float:
        """Training, validations and scoring together."""
        return sum(each.seconds for each in self.stages) + (self.validations or 0.0) + self.scoring


def updates_of(stage: Stage, budget: Budget) -> int:
    """Updates of a stage at most."""
    return -(-stage.episodes // (stage.batch or budget.batch))


def validations_of(budget: Budget) -> int:
    """How often a training on this budget looks at validation episodes, if all its stages run to their end."""
    if budget.validation is None:
        return 0
    looks, past = 0, 0
    for stage in budget.stages:
        after = past + updates_of(stage, budget) * (stage.batch or budget.batch)
        if stage.objective == "head":
            looks += 1
        elif stage.on_episodes:
            looks += after // budget.validation.every - past // budget.validation.every
        past = after
    return max(1, looks)


def recorded_time(out: Path, identity: dict[str, Any], budget: Budget, machine: Hardware) -> ExpectedTime | None:
    """The time that the newest finished run of the same training took on this machine, by its folder under `out`.

    `identity` holds what must be the same (target, options, digest, recipe_hash) and the number of test episodes, None
    for all. None if there is no such run.
    """
    found = [(record, folder) for record, folder in _finished(out) if _same(record, identity, machine)]
    for record, folder in sorted(found, key=lambda each: each[0].when, reverse=True):
        stages = _recorded_stages(folder, budget)
        if stages is not None:
            scoring = record.score_seconds * (identity["test_episodes"] or record.test_episodes) / record.test_episodes
            reused = ", with features from the cache" if any(each.reused for each in record.pretrained) else ""
            return ExpectedTime(f"recorded by {folder}{reused}", stages, None, scoring, at_most=False)
    return None


def measured_time(prepared: Prepared, seconds: float, say: Callable[[str], None]) -> ExpectedTime:
    """The time of a run on this machine, from updates of each stage for so many seconds, and a batch of scoring.

    Raises UserError where the method has nothing to train.
    """
    with torch_threads(prepared.request.threads):
        return _measured(prepared, seconds, say)


def _measured(prepared: Prepared, seconds: float, say: Callable[[str], None]) -> ExpectedTime:
    training, budget = training_of(prepared, say), prepared.budget
    training = dataclasses.replace(training, cache=None)
    method, protocol = training.method, training.protocol
    if not any(each.requires_grad for each in method.parameters()):
        raise UserError(f"{prepared.method.name} has no parameters: nothing is trained, so there is nothing to time")
    method.train()
    progress, running, stages = Progress(), None, []
    for number, stage in enumerate(budget.stages):
        say(f"timing stage '{stage.name}'")
        progress.begin_stage(number)
        began = time.monotonic()
        running = begin_stage(training, number, before=running)
        preparing = time.monotonic() - began
        updates = updates_of(stage, budget)
        stages.append(StageTime(stage.name, updates, preparing + updates * _per_update(running, progress, seconds)))
    say("timing a batch of scoring")
    selected_by = validation_protocol(protocol, training.source.dataset)
    split = "train" if selected_by is None else "validation"
    scored: list[int] = []
    total = prepared.identity["test_episodes"]
    began = time.monotonic()
    evaluate(method, training.source, selected_by or protocol, split, total, scored.append, batches=[0])
    per_episode = (time.monotonic() - began) / sum(scored)
    looked_at = validations_of(budget) * (budget.validation.episodes if budget.validation else 0)
    return ExpectedTime(
        f"measured now, {seconds:g} s a stage",
        tuple(stages),
        looked_at * per_episode,
        total * per_episode,
        at_most=any(stage.until_loss is not None for stage in budget.stages),
    )


def _per_update(running: RunningStage, progress: Progress, seconds: float) -> float:
    running.advance(progress)
    count, began = 0, time.monotonic()
    while count < FEWEST_UPDATES or time.monotonic() - began < seconds:
        running.advance(progress)
        count += 1
    return (time.monotonic() - began) / count


def _finished(out: Path) -> Iterator[tuple[Record, Path]]:
    for path in sorted(out.glob(f"*/*/{RECORD}")):
        try:
            yield read_record(path.parent), path.parent
        except UserError:
            continue


def _same(record: Record, identity: dict[str, Any], machine: Hardware) -> bool:
    names = ("target", "options", "digest", "recipe_hash")
    cut = record.budget_cut or record.hardware != machine
    return not cut and all(getattr(record, name) == identity[name] for name in names)


def _recorded_stages(folder: Path, budget: Budget) -> tuple[StageTime, ...] | None:
    """What a run's log says of each stage; None if it does not tell them apart (as of a run that was resumed)."""
    try:
        ends = [entry for entry in read_log_entries(folder) if entry["event"] == "stage"]
        counted = [(int(entry["updates"]), float(entry["seconds"])) for entry in ends]
    except (ValueError, KeyError, TypeError):
        return None
    if len(counted) != len(budget.stages) or counted != sorted(counted):
        return None
    before, found = (0, 0.0), []
    for stage, (updates, seconds) in zip(budget.stages, counted, strict=True):
        found.append(StageTime(stage.name, updates - before[0], seconds - before[1]))
        before = updates, seconds
    return tuple(found)
