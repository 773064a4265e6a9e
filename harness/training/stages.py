"""Stages of a training: what lasts for one stage, and the loss of its objective."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.episodes.source import Episodes
from harness.evaluation.rollout import class_loss, head_loss, training_loss
from harness.method.interface import Method
from harness.method.registry import task_of
from harness.protocol.models import AnyProtocol
from harness.training.frozen_features import FrozenFeatures
from harness.training.recipe import Optimizer, Stage, staged
from harness.training.state import Progress, Training
from harness.util import philox
from harness.util.errors import UserError
from harness.util.seeding import class_layer, seeded
from harness.util.tensor_files import restore_optimizer, without_prefix


@dataclass
class Running:
    """What lasts for one stage: its protocol, its optimiser, and what its objective needs.

    `head` tells the training classes apart. `beside` is what is trained along with the method and then thrown away:
    that head, unless the method keeps one of its own, or the pretext. `shared` are the features that an objective on
    classes trains for all methods that have them. `frozen` are the features under an objective on the head.
    """

    spec: Stage
    protocol: AnyProtocol
    head: nn.Module | None
    beside: nn.Module | None
    shared: nn.Module | None
    frozen: FrozenFeatures | None
    optimizer: torch.optim.Optimizer

    @property
    def clipped(self) -> nn.Module | None:
        """What the largest norm of the gradient is for, if it is not the method."""
        return self.beside if isinstance(self.beside, Method) else self.shared


def begun(
    training: Training, number: int, tensors: dict[str, Tensor] | None = None, before: Running | None = None
) -> Running:
    """The numbered stage at its beginning, or as it was when `tensors` were saved; `before` is the stage just ended."""
    spec, method, device = training.budget.stages[number], training.method, training.source.device
    protocol = stage_protocol(training, spec)
    head: nn.Module | None = None
    beside: nn.Module | None = None
    shared = method.shared_features() if spec.objective == "classes" else None
    if spec.objective == "pretext":
        beside = _pretext(training, spec, protocol, number).to(device)
    elif spec.objective in {"classes", "head"} or spec.classes_weight:
        width = _feature_width(training, spec)
        if spec.objective != "head":
            head = method.class_head()
            if head is None:
                # Shared features go on with their layer from one stage on classes to the next.
                kept = before.beside if shared is not None and before and before.shared is shared else None
                head = beside = kept or _class_layer(training, number, width).to(device)
    frozen = None
    if spec.objective == "head":
        # A stage on the head leaves the features as they were, so that the next one need not compute them again.
        frozen = (before and before.frozen) or FrozenFeatures(method, training.source, "train")
    whole = [method, *([beside] if beside else [])] if shared is None else [shared, *([head] if head else [])]
    parameters = [each for each in nn.ModuleList(whole).parameters() if each.requires_grad]
    optimizer = _optimizer(spec.optimizer or training.budget.optimizer, parameters)
    if tensors:
        restore_optimizer(optimizer, without_prefix("optimizer", tensors))
        if beside:
            beside.load_state_dict(without_prefix("beside", tensors))
    return Running(spec, protocol, head, beside, shared, frozen, optimizer)


def loss_of(training: Training, progress: Progress, stage: Running, size: int) -> tuple[Tensor, float]:
    """The loss of the next `size` episodes of a stage, and its value per scored step (or image)."""
    source, augment = training.source, training.budget.augment
    numbers = np.arange(progress.stage_episodes, progress.stage_episodes + size)
    # The stage is part of the seed, so that two stages of one shape do not see the same episodes.
    seed = philox.key_of("train", training.seed, progress.stage)[0]
    if stage.spec.objective == "classes":
        loss = _class_loss(training, stage, seed, numbers)
        return loss, loss.item()
    if stage.frozen is not None:
        episodes = stage.frozen.episodes(stage.protocol, seed, numbers)
        loss = head_loss(training.method, episodes)
        return loss, loss.item() / int(episodes.plan.scored.sum())
    episodes = source.episodes(stage.protocol, "train", seed, numbers, augment)
    fast = training.budget.compile and source.device.type == "cuda"
    method = stage.beside if isinstance(stage.beside, Method) else training.method
    loss = (_compiled_loss() if fast else training_loss)(method, episodes)
    value = loss.item() / int(episodes.plan.scored.sum())
    if stage.spec.classes_weight:
        first, count = progress.stage_episodes // size * stage.spec.classes_batch, stage.spec.classes_batch
        loss = loss + stage.spec.classes_weight * _class_loss(training, stage, seed, np.arange(first, first + count))
    return loss, value


def rate(stage: Stage, optimizer: Optimizer, done: int, batch: int) -> float:
    """The learning rate of the next update of a stage of which `done` episodes are past."""
    found = stage.lr or optimizer.lr
    if stage.schedule == "cosine":
        found *= 0.5 * (1 + math.cos(math.pi * min(1.0, done / stage.episodes)))
    if stage.warmup:
        found *= min(1.0, (done / batch + 1) / stage.warmup)
    return found


def stage_protocol(training: Training, stage: Stage) -> AnyProtocol:
    """The protocol of a stage; UserError if it changes a delay that the method was told."""
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


def _class_loss(training: Training, stage: Running, seed: int, numbers: np.ndarray) -> Tensor:
    """The loss of telling the training classes apart on single images, numbered under a seed."""
    assert stage.head is not None
    # Shared features are no matter of the protocol that a method is trained for, nor are the images they are shown.
    protocol = None if stage.shared is not None else stage.protocol
    x, rows = training.source.images(protocol, "train", seed, numbers, training.budget.augment)
    return class_loss(training.method, stage.head, x, rows)


@functools.cache
def _compiled_loss() -> Callable[[Method, Episodes], Tensor]:
    return torch.compile(training_loss)


def _optimizer(settings: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(parameters, lr=settings.lr, weight_decay=settings.weight_decay)


def _feature_width(training: Training, stage: Stage) -> int:
    """The width of the method's memoryless features; UserError if it has not what the stage's objective needs."""
    method, device = training.method, training.source.device
    was_training = method.training
    method.eval()
    with torch.no_grad():
        features = method.memoryless_features(torch.zeros(2, *method.task.image_shape, device=device))
        passed = features is not None and (stage.objective != "head" or _passed_on(method, features))
    method.train(was_training)
    if features is None or not passed:
        lacks = "memoryless_features()" if features is None else "memoryless_features() that pass on features"
        raise UserError(
            f"stage '{stage.name}' has the objective '{stage.objective}', but {type(method).__name__} has no {lacks}"
        )
    return features.shape[1]


def _passed_on(method: Method, features: Tensor) -> bool:
    """Whether features [N, D], given as images [N, D, 1, 1], come out as they are."""
    try:
        again = method.memoryless_features(features[..., None, None])
    except (RuntimeError, ValueError):  # taken for an image of one pixel
        return False
    return again is not None and again.shape == features.shape and bool((again == features).all())


def _pretext(training: Training, stage: Stage, protocol: AnyProtocol, number: int) -> Method:
    """The method's pretext for a stage; UserError if it has none."""
    method, card = training.method, training.source.dataset.card
    task = task_of(protocol, card.image_shape, card.classes["train"], delay_told=True)
    pretext = seeded(lambda: method.pretext(task), "pretext", training.seed, number)
    if pretext is None:
        raise UserError(f"stage '{stage.name}' has the objective 'pretext', but {type(method).__name__} has none")
    return pretext


def _class_layer(training: Training, number: int, width: int) -> nn.Module:
    return class_layer(width, len(training.source.dataset.tables["train"].names), training.seed, number)
