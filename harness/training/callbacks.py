"""Callbacks: what a program is told while a run goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.records.record import Record
from harness.training.state import Progress, Training


@dataclass(frozen=True)
class Event:
    """Where a training stands after an update, a validation, or the end of a stage.

    `episodes` and `updates` count from the beginning of the run, over all stages. `loss` is that of the last update,
    per scored step and in nats; `smoothed_loss` its running mean over the stage, None before the stage's first update.
    `validation` is the score of the last validation in per cent (of the metric that boards are ranked by), None before
    the first; `best` the highest so far. `seconds` is the time of training.
    """

    stage: str
    episodes: int
    updates: int
    loss: float | None
    smoothed_loss: float | None
    validation: float | None
    best: float | None
    seconds: float


class Callback:
    """Derive from it, define those methods that are wanted, and give an instance to `harness.run(callbacks=[...])`.

    Of several seeds each is a run of its own, from `on_start` to `on_end`. What a method raises ends the run; it can be
    resumed. A run that was finished before calls none of them.
    """

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        """A run begins or goes on: what it is a function of (protocol, method, options, seed, ...), and its folder."""

    def on_update(self, event: Event) -> None:
        """The optimiser took a step."""

    def on_validation(self, event: Event) -> None:
        """Validation episodes were scored."""

    def on_stage(self, event: Event) -> None:
        """A stage of training ended; `event.stage` is the one that begins now, or the last."""

    def on_end(self, record: Record | None) -> None:
        """The run is over: its record with the test metrics, None where it was stopped or failed."""


@dataclass
class Called:
    """Those who are told of a run, and how many of them know that it began."""

    callbacks: Sequence[Callback]
    started: int = 0

    def start(self, identity: Mapping[str, Any], folder: Path) -> None:
        """Tells each that the run begins."""
        for each in self.callbacks:
            each.on_start(identity, folder)
            self.started += 1

    def end(self, record: Record | None) -> None:
        """Tells each that knew of the beginning, in their order, even where one of them raises."""
        with contextlib.ExitStack() as stack:
            for each in reversed(self.callbacks[: self.started]):
                stack.callback(each.on_end, record)


def reporting_to(callbacks: Sequence[Callback]) -> Callable[[Progress, Training, str], None]:
    """What `train` reports to, as calls of callbacks."""
    hooks = {
        "update": [each.on_update for each in callbacks],
        "validation": [each.on_validation for each in callbacks],
        "stage": [each.on_stage for each in callbacks],
    }

    def report(progress: Progress, training: Training, event: str) -> None:
        for hook in hooks.get(event, ()):
            hook(_event(progress, training))

    return report


def _event(progress: Progress, training: Training) -> Event:
    return Event(
        stage=training.budget.stages[progress.stage].name,
        episodes=progress.episodes,
        updates=progress.updates,
        loss=progress.last_loss,
        smoothed_loss=progress.loss,
        validation=progress.history[-1]["score"] if progress.history else None,
        best=progress.best,
        seconds=progress.seconds,
    )
