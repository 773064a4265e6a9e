"""What trackers are told, as flat names and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.evaluation.summary import of_metrics
from harness.records.record import Record
from harness.training.callbacks import Event


def training_numbers(event: Event) -> dict[str, float]:
    """The losses of an update, under 'train/', in nats per scored step."""
    found = {"train/loss": event.loss, "train/smoothed_loss": event.smoothed_loss}
    return {name: value for name, value in found.items() if value is not None}


def validation_numbers(event: Event) -> dict[str, float]:
    """The score of a validation and the best so far, under 'validation/', in per cent."""
    found = {"validation/score": event.validation, "validation/best": event.best}
    return {name: value for name, value in found.items() if value is not None}


def test_numbers(record: Record) -> dict[str, float]:
    """Every test metric with half the width of its interval, under 'test/', in per cent."""
    found = of_metrics(record.metrics)
    means = {f"test/{_plain(name)}": each.mean for name, each in found.items()}
    halves = {
        f"test/{_plain(name)}_interval": each.interval for name, each in found.items() if each.interval is not None
    }
    return {**means, **halves}


def settings(identity: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """What a run is a function of, flat: options and changes of the recipe as 'options.channels'."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in identity.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": each for key, each in settings(value).items()}
        elif value is not None:
            found[name] = value if isinstance(value, str | int | float | bool) else str(value)
    return found


def _plain(name: str) -> str:
    """'accuracy@shot=5' as 'accuracy_shot_5': trackers do not take every sign."""
    return name.replace("@", "_").replace("=", "_")
