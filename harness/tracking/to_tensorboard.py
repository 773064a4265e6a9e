"""TensorBoard: event files in the run folder, `tensorboard --logdir runs` shows all runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.record import Record
from harness.tracking.numbers import settings, test_numbers, training_numbers, validation_numbers
from harness.training.callbacks import Callback, Event

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoard(Callback):
    """Scalars by training episode: losses, validation scores and, at the end, test metrics."""

    _writer: SummaryWriter

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / FOLDER))
        lines = [f"    {name}: {value}" for name, value in settings(identity).items()]
        self._writer.add_text("run", "\n".join(lines))

    def on_update(self, event: Event) -> None:
        self._add(training_numbers(event), event.episodes)

    def on_validation(self, event: Event) -> None:
        self._add(validation_numbers(event), event.episodes)

    def on_end(self, record: Record | None) -> None:
        if record is not None:
            self._add(test_numbers(record), record.train_episodes)
        self._writer.close()

    def _add(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
