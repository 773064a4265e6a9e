"""MLflow: a run of the experiment 'episode-harness', in the working directory or where MLFLOW_TRACKING_URI says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.records.record import Record
from harness.tracking.numbers import settings, test_numbers, training_numbers, validation_numbers
from harness.training.callbacks import Callback, Event

EXPERIMENT = "episode-harness"


class MLflow(Callback):
    """Metrics by training episode; the run's settings as its parameters."""

    def __init__(self) -> None:
        import mlflow

        self._mlflow = mlflow

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        self._mlflow.set_experiment(EXPERIMENT)
        self._mlflow.start_run(run_name=folder.absolute().name)
        self._mlflow.log_params(settings(identity))

    def on_update(self, event: Event) -> None:
        self._mlflow.log_metrics(training_numbers(event), step=event.episodes)

    def on_validation(self, event: Event) -> None:
        self._mlflow.log_metrics(validation_numbers(event), step=event.episodes)

    def on_end(self, record: Record | None) -> None:
        if record is not None:
            self._mlflow.log_metrics(test_numbers(record), step=record.train_episodes)
        self._mlflow.end_run("FINISHED" if record is not None else "KILLED")
