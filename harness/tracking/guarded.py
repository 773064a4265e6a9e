"""A tracker that fails: before a run begins that is an error, later on the run goes on without it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.records.record import Record
from harness.training.callbacks import Callback, Event
from harness.util.errors import UserError

LOG = logging.getLogger(__name__)


class Guarded(Callback):
    """Passes every call on to a tracker, until that raises something: training is worth more than its log."""

    def __init__(self, name: str, tracker: Callback) -> None:
        self.name, self.tracker = name, tracker
        self._works = True

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        self._works = True
        try:
            self.tracker.on_start(identity, folder)
        except Exception as error:  # whatever the package raises: no network, no login, a store that it refuses
            raise UserError(f"{self.name} cannot be logged to: {_first_sentence(error)}") from None

    def on_update(self, event: Event) -> None:
        self._pass_on(lambda: self.tracker.on_update(event))

    def on_validation(self, event: Event) -> None:
        self._pass_on(lambda: self.tracker.on_validation(event))

    def on_stage(self, event: Event) -> None:
        self._pass_on(lambda: self.tracker.on_stage(event))

    def on_end(self, record: Record | None) -> None:
        self._pass_on(lambda: self.tracker.on_end(record))

    def _pass_on(self, call: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            call()
        except Exception as error:
            self._works = False
            LOG.warning("%s failed, and the run goes on without it: %s", self.name, _first_sentence(error))


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip() if lines else 'no message'}"
