"""Training: stages of a recipe, one update after another, with exact resume.

The state of a training is its checkpoint and nothing else: weights, optimiser moments, and the counters of
`Progress`. Episodes are pure functions of their number and every update has random bits of its own, so a
training that was interrupted goes on exactly as if it had not been (bit for bit on a CPU).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from harness.evaluation.evaluate import evaluate
from harness.evaluation.score import metrics
from harness.protocol.models import ranking
from harness.training.recipe import Budget, Stage
from harness.training.shared_features import begin_pretraining, end_pretraining
from harness.training.stages import Running, begun, loss_of, rate
from harness.training.state import SMOOTHING, Progress, Training
from harness.util import philox, signals
from harness.util.errors import RunError, UserError
from harness.util.tensor_files import (
    load_tensors,
    load_weights,
    optimizer_tensors,
    save_tensors,
    with_prefix,
    without_prefix,
)

Report = Callable[[Progress, Training, str], None]
"""Told of every update ('update'), validation ('validation'), change of stage ('stage') and save ('saved')."""


def train(training: Training, report: Report = lambda *_: None) -> Progress:
    """Runs or resumes a training until its stages end or a limit cuts it; leaves the best weights in the method.

    Raises RunError when the loss stops being a number (the last good checkpoint stays), and KeyboardInterrupt
    after a stop was asked for and everything was saved.
    """
    method, budget = training.method, training.budget
    progress, best = Progress(), None
    if not budget.stages or not any(p.requires_grad for p in method.parameters()):
        progress.done = True
        return progress
    tensors: dict[str, Tensor] = {}
    if training.checkpoint.is_file():
        tensors, header = load_tensors(training.checkpoint)
        progress = _progress_of(header, training)
        load_weights(method, without_prefix("method", tensors), training.checkpoint)
        device = training.source.device
        best = {name: each.to(device) for name, each in without_prefix("best", tensors).items()} or None
    stage = begun(training, progress.stage, tensors)
    began, saved = time.monotonic() - progress.seconds, time.monotonic()
    method.train()

    def late() -> bool:
        """Whether a limit of time is reached."""
        progress.seconds = time.monotonic() - began
        return training.limits.seconds is not None and progress.seconds >= training.limits.seconds

    with signals.deferred() as stop, ExitStack() as held:
        while not progress.done:
            reused = begin_pretraining(training, progress, stage, held, lambda: stop.asked or late())
            if not reused:
                _update(training, progress, stage)
                late()
                report(progress, training, "update")
            if _due(training, progress, stage.spec):
                best = _validated(training, progress, best)
                report(progress, training, "validation")
            if reused or progress.stage_episodes >= stage.spec.episodes or _low_enough(progress, stage.spec):
                if not reused:
                    end_pretraining(training, progress, stage)
                held.close()
                if budget.validation and stage.spec.objective == "head":
                    best = _validated(training, progress, best)
                    report(progress, training, "validation")
                _next_stage(progress, budget)
                stage = stage if progress.done else begun(training, progress.stage, before=stage)
                report(progress, training, "stage")
            progress.done = progress.done or progress.episodes >= training.total or late()
            if progress.done and budget.validation and not _fresh(progress):
                best = _validated(training, progress, best)
                report(progress, training, "validation")
            save_now = time.monotonic() - saved >= training.limits.checkpoint_seconds
            if progress.done or stop.asked or save_now:
                _save(training, progress, stage, best)
                saved = time.monotonic()
                report(progress, training, "saved")
            stop.check()
    if best is not None:
        method.load_state_dict(best)
    return progress


def _progress_of(header: dict[str, Any], training: Training) -> Progress:
    try:
        progress = Progress(**header["progress"])
        training.budget.stages[progress.stage]
        return progress
    except (KeyError, TypeError, IndexError):
        raise UserError(
            f"{training.checkpoint} is damaged: it does not say how far the training got; "
            "set the run folder aside with --fresh"
        ) from None


def _update(training: Training, progress: Progress, stage: Running) -> None:
    """One batch of episodes (or images), one backward pass, one step of the optimiser."""
    method, budget, device = training.method, training.budget, training.source.device
    size = stage.spec.batch or budget.batch
    for group in stage.optimizer.param_groups:
        group["lr"] = rate(stage.spec, stage.spec.optimizer or budget.optimizer, progress.stage_episodes, size)
    stage.optimizer.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(philox.key_of("update", training.seed, progress.updates)[0])
        with torch.autocast(device.type, torch.bfloat16, enabled=budget.amp == "bf16" and device.type == "cuda"):
            loss, value = loss_of(training, progress, stage, size)
    if not math.isfinite(value):
        raise RunError(
            f"the training loss is {value} at update {progress.updates} (stage '{stage.spec.name}', "
            f"{progress.episodes} episodes); {_last_good(training)}. Try a lower lr or a clip_norm in the recipe."
        )
    if not loss.requires_grad:
        raise UserError(
            f"stage '{stage.spec.name}' has the objective '{stage.spec.objective}', which leaves "
            f"{type(method).__name__} nothing to train"
        )
    loss.backward()
    clip_norm = stage.spec.clip_norm or budget.clip_norm
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_((stage.clipped or method).parameters(), clip_norm)
    stage.optimizer.step()
    progress.updates += 1
    progress.episodes += size
    progress.stage_episodes += size
    progress.smoothed = SMOOTHING * progress.smoothed + (1 - SMOOTHING) * value
    progress.smoothed_weight = SMOOTHING * progress.smoothed_weight + (1 - SMOOTHING)


def _last_good(training: Training) -> str:
    if training.checkpoint.is_file():
        return f"the last good checkpoint is {training.checkpoint}"
    return "no checkpoint was written before that"


def _low_enough(progress: Progress, stage: Stage) -> bool:
    # Half the weight in place: a handful of easy batches right after a change must not end a stage.
    if stage.until_loss is None or progress.loss is None or progress.smoothed_weight <= 0.5:
        return False
    return progress.loss < stage.until_loss


def _next_stage(progress: Progress, budget: Budget) -> None:
    if progress.stage == len(budget.stages) - 1:
        progress.done = True
        return
    progress.stage += 1
    progress.stage_episodes = 0
    progress.smoothed = progress.smoothed_weight = 0.0


def _due(training: Training, progress: Progress, stage: Stage) -> bool:
    validation = training.budget.validation
    if validation is None or stage.objective != "episodes":
        return False
    size = stage.batch or training.budget.batch
    return progress.episodes // validation.every > (progress.episodes - size) // validation.every


def _fresh(progress: Progress) -> bool:
    return bool(progress.history) and progress.history[-1]["episodes"] == progress.episodes


def _validated(training: Training, progress: Progress, best: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """The best weights after one more look at the validation classes, which goes into the history."""
    assert training.budget.validation is not None
    scores = evaluate(
        training.method, training.source, training.protocol, "validation", training.budget.validation.episodes
    )
    found = metrics(training.protocol, scores)[ranking(training.protocol)][0]
    progress.history.append(
        {
            "episodes": progress.episodes,
            "stage": progress.stage,
            "loss": progress.loss,
            "score": found,
            "seconds": round(progress.seconds, 1),
        }
    )
    if best is None or progress.best is None or found > progress.best:
        progress.best, progress.best_episodes = found, progress.episodes
        return {name: tensor.detach().clone() for name, tensor in training.method.state_dict().items()}
    return best


def _save(training: Training, progress: Progress, stage: Running, best: dict[str, Tensor] | None) -> None:
    if not all(each.isfinite().all() for each in training.method.parameters()):
        # The loss would show it at the next update only, when this checkpoint had taken the place of a good one.
        raise RunError(
            f"a weight is no longer a finite number after update {progress.updates} (stage '{stage.spec.name}', "
            f"{progress.episodes} episodes); {_last_good(training)}. Try a lower lr or a clip_norm in the recipe."
        )
    save_tensors(
        training.checkpoint,
        {
            **with_prefix("method", training.method.state_dict()),
            **with_prefix("optimizer", optimizer_tensors(stage.optimizer)),
            **with_prefix("beside", stage.beside.state_dict() if stage.beside else {}),
            **with_prefix("best", best or {}),
        },
        {**training.header, "progress": dataclasses.asdict(progress)},
    )
