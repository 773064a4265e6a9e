"""The checkpoint of a training: weights, the state of its stage, the best weights so far, and the counters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.training.stages import RunningStage
from harness.training.state import Progress, Training
from harness.util.errors import UserError
from harness.util.option_names import switch
from harness.util.tensor_files import load_tensors, load_weights, save_tensors, with_prefix, without_prefix

Tensors = dict[str, Tensor]


def restore(training: Training) -> tuple[Progress, Tensors, Tensors | None]:
    """Where a training stands: its progress, the tensors of its stage, and the best weights so far.

    The weights are loaded into the method. Fresh counters and no tensors where there is no checkpoint; UserError where
    it is damaged or of another method.
    """
    if not training.checkpoint.is_file():
        return Progress(), {}, None
    tensors, header = load_tensors(training.checkpoint)
    progress = _progress_of(header, training.checkpoint, len(training.budget.stages))
    load_weights(training.method, without_prefix("method", tensors), training.checkpoint)
    device = training.source.device
    best = {name: each.to(device) for name, each in without_prefix("best", tensors).items()}
    return progress, tensors, best or None


def save(training: Training, progress: Progress, stage: RunningStage, best: Tensors | None) -> None:
    """Replaces the checkpoint; raises RunError, and leaves the old one, where a weight is no finite number."""
    stage.check_weights(progress)
    save_tensors(
        training.checkpoint,
        {
            **stage.tensors(),
            **with_prefix("best", best or {}),
        },
        {**training.header, "progress": dataclasses.asdict(progress)},
    )


def progress_in(path: Path) -> Progress:
    """How far the training got whose checkpoint this is; UserError if it is missing or damaged."""
    return _progress_of(load_tensors(path)[1], path)


def _progress_of(header: dict[str, Any], path: Path, stages: int | None = None) -> Progress:
    try:
        progress = Progress(**header["progress"])
        if stages is not None:
            range(stages)[progress.stage]
        return progress
    except (KeyError, TypeError, IndexError):
        raise UserError(
            f"{path} is damaged: it does not say how far the training got; "
            f"set the run folder aside with {switch('fresh')}"
        ) from None
