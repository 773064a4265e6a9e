"""Weights & Biases: a run of the project 'episode-harness'; WANDB_MODE=offline logs without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.records.record import Record
from harness.tracking.numbers import settings, test_numbers, training_numbers, validation_numbers
from harness.training.callbacks import Callback, Event

PROJECT = "episode-harness"


class WandB(Callback):
    """Losses, validation scores and test metrics, by training episode; the run's settings as its config."""

    def __init__(self) -> None:
        import wandb

        self._wandb = wandb

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        self._wandb.init(project=PROJECT, name=folder.absolute().name, config=settings(identity))
        self._wandb.define_metric("*", step_metric="episodes")

    def on_update(self, event: Event) -> None:
        self._wandb.log({**training_numbers(event), "episodes": event.episodes})

    def on_validation(self, event: Event) -> None:
        self._wandb.log({**validation_numbers(event), "episodes": event.episodes})

    def on_end(self, record: Record | None) -> None:
        if record is not None:
            self._wandb.log({**test_numbers(record), "episodes": record.train_episodes})
        self._wandb.finish()
