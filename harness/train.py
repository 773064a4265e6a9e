"""Training: stages of a recipe, one update after another, with exact resume.

The state of a training is its checkpoint and nothing else: weights, optimiser moments, and the counters of
`Progress`. Episodes are pure functions of their number and every update has random bits of its own, so a
training that was interrupted goes on exactly as if it had not been (bit for bit on a CPU).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import bits, interrupts
from harness.checkpoint import (
    load_tensors,
    load_weights,
    optimizer_tensors,
    restore_optimizer,
    save_tensors,
    with_prefix,
    without_prefix,
)
from harness.episodes import Episodes, EpisodeSource
from harness.errors import RunError, UserError
from harness.evaluate import evaluate
from harness.frozen import FrozenFeatures
from harness.method import Feedback, Method
from harness.plan import NULL, STREAM, plan_episodes
from harness.recipe import Budget, Optimizer, Stage, staged
from harness.registry import task_of
from harness.rollout import class_loss, head_loss, training_loss
from harness.score import metrics
from harness.spec import AnyProtocol, ranking

SMOOTHING = 0.98
"""Weight of the past in the smoothed loss."""


@dataclass
class Progress:
    """Counters of a training; all that a resume needs besides tensors."""

    stage: int = 0
    stage_episodes: int = 0
    episodes: int = 0
    updates: int = 0
    smoothed: float = 0.0
    smoothed_weight: float = 0.0
    best: float | None = None
    best_episodes: int = 0
    seconds: float = 0.0
    done: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Smoothed training loss per scored step, in nats."""
        return self.smoothed / self.smoothed_weight if self.smoothed_weight else float("nan")


@dataclass(frozen=True)
class Limits:
    """What cuts a training short, and how often it is saved."""

    episodes: int | None = None
    seconds: float | None = None
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True)
class Training:
    """Everything a training is a function of."""

    method: Method
    source: EpisodeSource
    protocol: AnyProtocol
    budget: Budget
    seed: int
    checkpoint: Path
    header: dict[str, Any]
    limits: Limits = Limits()

    @property
    def total(self) -> int:
        """Training episodes at most."""
        return min(self.budget.episodes, self.limits.episodes or self.budget.episodes)


Report = Callable[[Progress, Training, str], None]
"""Told of every update ('update'), validation ('validation'), change of stage ('stage') and save ('saved')."""


@dataclass
class _Stage:
    """What lasts for one stage: its protocol, its optimiser, and what its objective needs.

    `beside` is what is trained along with the method and then thrown away: the linear layer of an objective on
    classes, or the pretext. `frozen` are the features under an objective on the head.
    """

    spec: Stage
    protocol: AnyProtocol
    beside: nn.Module | None
    frozen: FrozenFeatures | None
    optimizer: torch.optim.Optimizer


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
        progress = Progress(**header["progress"])
        load_weights(method, without_prefix("method", tensors), training.checkpoint)
        device = training.source.device
        best = {name: each.to(device) for name, each in without_prefix("best", tensors).items()} or None
    stage = _begun(training, progress.stage, tensors)
    began, saved = time.monotonic() - progress.seconds, time.monotonic()
    method.train()
    with interrupts.deferred() as stop:
        while not progress.done:
            _update(training, progress, stage)
            progress.seconds = time.monotonic() - began
            report(progress, training, "update")
            if _due(training, progress, stage.spec):
                best = _validated(training, progress, best)
                report(progress, training, "validation")
            if progress.stage_episodes >= stage.spec.episodes or _low_enough(progress, stage.spec):
                if budget.validation and stage.spec.objective == "head":
                    best = _validated(training, progress, best)
                    report(progress, training, "validation")
                _next_stage(progress, budget)
                stage = stage if progress.done else _begun(training, progress.stage, before=stage)
                report(progress, training, "stage")
            progress.done = (
                progress.done
                or progress.episodes >= training.total
                or (training.limits.seconds is not None and progress.seconds >= training.limits.seconds)
            )
            if progress.done and budget.validation and not _fresh(progress):
                best = _validated(training, progress, best)
                report(progress, training, "validation")
            late = time.monotonic() - saved >= training.limits.checkpoint_seconds
            if progress.done or stop.asked or late:
                _save(training, progress, stage, best)
                saved = time.monotonic()
                report(progress, training, "saved")
            if not progress.done:
                stop.check()
    if best is not None:
        method.load_state_dict(best)
    return progress


def _begun(
    training: Training, number: int, tensors: dict[str, Tensor] | None = None, before: _Stage | None = None
) -> _Stage:
    """The numbered stage at its beginning, or as it was when `tensors` were saved; `before` is the stage just ended."""
    spec, settings, device = training.budget.stages[number], training.budget.optimizer, training.source.device
    protocol = _stage_protocol(training, spec)
    beside: nn.Module | None = None
    if spec.objective == "pretext":
        beside = _pretext(training, spec, protocol, number).to(device)
    elif spec.objective in {"classes", "head"}:
        width = _feature_width(training, spec, protocol)
        beside = _head(training, number, width).to(device) if spec.objective == "classes" else None
    frozen = None
    if spec.objective == "head":
        # A stage on the head leaves the features as they were, so that the next one need not compute them again.
        frozen = (before and before.frozen) or FrozenFeatures(training.method, training.source, "train")
    trained = nn.ModuleList([training.method] + ([beside] if beside else []))
    parameters = [each for each in trained.parameters() if each.requires_grad]
    if settings.name == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    else:
        kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
        optimizer = kind(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    if tensors:
        restore_optimizer(optimizer, without_prefix("optimizer", tensors))
        if beside:
            beside.load_state_dict(without_prefix("beside", tensors))
    return _Stage(spec, protocol, beside, frozen, optimizer)


def _feature_width(training: Training, stage: Stage, protocol: AnyProtocol) -> int:
    """The width of the method's memoryless features; UserError if it has not what the stage's objective needs."""
    method, device = training.method, training.source.device
    was_training = method.training
    method.eval()
    with torch.no_grad():
        features = method.memoryless_features(torch.zeros(2, *method.task.image_shape, device=device))
        null = Feedback(torch.full((1, 2), NULL, device=device))
        lacks = "memoryless_features()" if features is None else ""
        if (
            features is not None
            and stage.objective == "head"
            and method.answer_features(features.unsqueeze(0), null) is None
        ):
            lacks = "answer_features()"
    method.train(was_training)
    streams = plan_episodes(protocol, training.source.dataset.tables["train"], "train", 0, [0])
    if stage.objective == "head" and (streams.phase != STREAM).any():
        raise UserError(
            f"stage '{stage.name}' has the objective 'head', which is for streams, but its episodes are of kind "
            f"{protocol.kind}"
        )
    if lacks or features is None:
        raise UserError(
            f"stage '{stage.name}' has the objective '{stage.objective}', but {type(method).__name__} has no {lacks}"
        )
    return features.shape[1]


def _pretext(training: Training, stage: Stage, protocol: AnyProtocol, number: int) -> Method:
    """The method's pretext for a stage; UserError if it has none."""
    method, card = training.method, training.source.dataset.card
    task = task_of(protocol, card.image_shape, card.classes["train"], delay_told=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bits.key_of("pretext", training.seed, number)[0])
        pretext = method.pretext(task)
    if pretext is None:
        raise UserError(f"stage '{stage.name}' has the objective 'pretext', but {type(method).__name__} has none")
    return pretext


def _head(training: Training, number: int, width: int) -> nn.Module:
    """A linear layer from features to the training classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bits.key_of("head", training.seed, number)[0])
        return nn.Linear(width, len(training.source.dataset.tables["train"].names))


def _update(training: Training, progress: Progress, stage: _Stage) -> None:
    """One batch of episodes (or images), one backward pass, one step of the optimiser."""
    method, budget, device = training.method, training.budget, training.source.device
    size = stage.spec.batch or budget.batch
    for group in stage.optimizer.param_groups:
        group["lr"] = _rate(stage.spec, budget.optimizer, progress.stage_episodes, size)
    stage.optimizer.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(bits.key_of("update", training.seed, progress.updates)[0])
        with torch.autocast(device.type, torch.bfloat16, enabled=budget.amp == "bf16" and device.type == "cuda"):
            loss, value = _loss(training, progress, stage, size)
    if not math.isfinite(value):
        raise RunError(
            f"the training loss is {value} at update {progress.updates} (stage '{stage.spec.name}', "
            f"{progress.episodes} episodes); the last good checkpoint is {training.checkpoint}. "
            "Try a lower lr or a clip_norm in the recipe."
        )
    loss.backward()
    if budget.clip_norm is not None:
        trained = stage.beside if isinstance(stage.beside, Method) else method
        torch.nn.utils.clip_grad_norm_(trained.parameters(), budget.clip_norm)
    stage.optimizer.step()
    progress.updates += 1
    progress.episodes += size
    progress.stage_episodes += size
    progress.smoothed = SMOOTHING * progress.smoothed + (1 - SMOOTHING) * value
    progress.smoothed_weight = SMOOTHING * progress.smoothed_weight + (1 - SMOOTHING)


def _loss(training: Training, progress: Progress, stage: _Stage, size: int) -> tuple[Tensor, float]:
    """The loss of the next `size` episodes of a stage, and its value per scored step (or image)."""
    source, augment = training.source, training.budget.augment
    numbers = np.arange(progress.stage_episodes, progress.stage_episodes + size)
    # The stage is part of the seed, so that two stages of one shape do not see the same episodes.
    seed = bits.key_of("train", training.seed, progress.stage)[0]
    if stage.spec.objective == "classes":
        assert stage.beside is not None
        x, rows = source.images(stage.protocol, "train", seed, numbers, augment)
        loss = class_loss(training.method, stage.beside, x, rows)
        return loss, loss.item()
    if stage.frozen is not None:
        episodes = stage.frozen.episodes(stage.protocol, seed, numbers)
        loss = head_loss(training.method, episodes)
        return loss, loss.item() / int(episodes.plan.scored.sum())
    episodes = source.episodes(stage.protocol, "train", seed, numbers, augment)
    fast = training.budget.compile and source.device.type == "cuda"
    method = stage.beside if isinstance(stage.beside, Method) else training.method
    loss = (_compiled_loss() if fast else training_loss)(method, episodes)
    return loss, loss.item() / int(episodes.plan.scored.sum())


@functools.cache
def _compiled_loss() -> Callable[[Method, Episodes], Tensor]:
    return torch.compile(training_loss)


def _rate(stage: Stage, optimizer: Optimizer, done: int, batch: int) -> float:
    """The learning rate of the next update of a stage of which `done` episodes are past."""
    rate = stage.lr or optimizer.lr
    if stage.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, done / stage.episodes)))
    if stage.warmup:
        rate *= min(1.0, (done / batch + 1) / stage.warmup)
    return rate


def _low_enough(progress: Progress, stage: Stage) -> bool:
    # Half the weight in place: a handful of easy batches right after a change must not end a stage.
    return stage.until_loss is not None and progress.smoothed_weight > 0.5 and progress.loss < stage.until_loss


def _next_stage(progress: Progress, budget: Budget) -> None:
    progress.stage += 1
    progress.stage_episodes = 0
    progress.smoothed = progress.smoothed_weight = 0.0
    if progress.stage == len(budget.stages):
        progress.stage -= 1
        progress.done = True


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


def _stage_protocol(training: Training, stage: Stage) -> AnyProtocol:
    protocol = staged(training.protocol, stage.episode, stage.kind)
    if stage.objective == "pretext":
        return protocol
    told = training.method.task.label_delay
    if told is not None and told != getattr(protocol, "label_delay", told):
        raise UserError(
            f"stage '{stage.name}' changes the label delay, but {type(training.method).__name__} is told the delay "
            f"of the protocol ({told}) and cannot follow; leave label_delay out of the stage"
        )
    return protocol


def _save(training: Training, progress: Progress, stage: _Stage, best: dict[str, Tensor] | None) -> None:
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
