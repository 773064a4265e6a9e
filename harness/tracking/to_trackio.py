"""trackio: a run of the project 'episode-harness', kept on this machine; `trackio show` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.records.record import Record
from harness.tracking.numbers import settings, test_numbers, training_numbers, validation_numbers
from harness.training.callbacks import Callback, Event

PROJECT = "episode-harness"


class Trackio(Callback):
    """Losses, validation scores and test metrics, with 'episodes' beside each; the run's settings as its config."""

    def __init__(self) -> None:
        import trackio

        self._trackio = trackio

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        self._trackio.init(project=PROJECT, name=folder.absolute().name, config=settings(identity))

    def on_update(self, event: Event) -> None:
        self._trackio.log({**training_numbers(event), "episodes": event.episodes})

    def on_validation(self, event: Event) -> None:
        self._trackio.log({**validation_numbers(event), "episodes": event.episodes})

    def on_end(self, record: Record | None) -> None:
        if record is not None:
            self._trackio.log({**test_numbers(record), "episodes": record.train_episodes})
        self._trackio.finish()
