"""The log of a run: every update, validation, end of a stage, and the test metrics, one JSON object a line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from harness.evaluation.summary import of_metrics
from harness.records.record import Record
from harness.training.callbacks import Callback, Event

SECONDS = 5.0
"""How long an update may wait in memory. All else is written at once; a kill costs the log that much at most."""


class RunLog(Callback):
    """Appends to a file. Every line has 'event', 'episodes', 'updates' and 'seconds'; those of a training also 'stage',
    'loss' (smoothed; null before a stage's first update) and 'last_loss'; a validation its score, in per cent; the last
    one ('test') 'metrics', by name [mean, half the width of the 95 % interval] in per cent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[str] = []
        self._written = time.monotonic()

    def on_update(self, event: Event) -> None:
        self._add("update", _plain(event))
        if time.monotonic() - self._written >= SECONDS:
            self._write()

    def on_validation(self, event: Event) -> None:
        self._add("validation", {**_plain(event), "validation": event.validation})
        self._write()

    def on_stage(self, event: Event) -> None:
        self._add("stage", _plain(event))
        self._write()

    def on_end(self, record: Record | None) -> None:
        if record is not None:
            numbers = {"episodes": record.train_episodes, "updates": record.train_updates}
            metrics = {name: [each.mean, each.interval] for name, each in of_metrics(record.metrics).items()}
            self._add("test", {**numbers, "seconds": record.train_seconds, "metrics": metrics})
        self._write()

    def _add(self, event: str, entry: Mapping[str, Any]) -> None:
        self._waiting.append(json.dumps({"event": event, **entry}, allow_nan=False) + "\n")

    def _write(self) -> None:
        if self._waiting:
            with self._path.open("a+b") as file:
                if file.tell() and _last_byte(file) != b"\n":  # a kill has torn the last line: it stays one of its own
                    file.write(b"\n")
                file.write("".join(self._waiting).encode())
        self._waiting, self._written = [], time.monotonic()


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _plain(event: Event) -> dict[str, Any]:
    return {
        "stage": event.stage,
        "episodes": event.episodes,
        "updates": event.updates,
        "loss": event.smoothed_loss,
        "last_loss": event.loss,
        "seconds": round(event.seconds, 1),
    }
