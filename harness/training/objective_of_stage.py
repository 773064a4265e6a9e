"""The objective of a stage, made from its words in the recipe; UserError where the method cannot have it."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from harness.method.interface import Method
from harness.method.registry import task_of
from harness.protocol.models import AnyProtocol
from harness.training.frozen_features import FrozenFeatures
from harness.training.interface import Features, check_hooks, training_hooks
from harness.training.objectives import (
    ClassesObjective,
    Draws,
    EpisodesObjective,
    HeadObjective,
    Objective,
    PretrainingObjective,
)
from harness.training.recipe import Stage
from harness.training.state import Training
from harness.util import philox
from harness.util.errors import UserError
from harness.util.seeding import class_layer, seeded


def objective_of_stage(
    training: Training, number: int, protocol: AnyProtocol, before: Objective | None = None
) -> Objective:
    """The objective of the numbered stage of a training; `before` is that of the stage that just ended.

    Stages in a row share what the first of them made: a layer over shared features, features that are frozen.
    """
    stage, method = training.budget.stages[number], training.method
    check_hooks(type(method))
    # The stage is part of the seed, so that two stages of one shape do not see the same episodes.
    seed = philox.key_of("train", training.seed, number)[0]
    draws = Draws(training.source, protocol, seed, training.budget.augment, training.processes)
    if stage.objective == "pretext":
        return PretrainingObjective(method, draws, _pretraining_method(training, protocol, number))
    if stage.objective == "episodes" and stage.classes_weight is None:
        return EpisodesObjective(method, draws)
    features = _features(training, stage)
    if stage.objective == "memoryless":
        return EpisodesObjective(method, draws, memoryless=features)
    if stage.objective == "head":
        assert features.rest is not None
        if isinstance(before, HeadObjective):
            frozen = before.frozen
        else:
            frozen = FrozenFeatures(
                method, features, training.source, "train", training.budget.precision, training.cache
            )
        return HeadObjective(method, features.rest, draws, frozen)
    if stage.objective == "classes":
        last = before if isinstance(before, ClassesObjective) and features.shared is not None else None
        layer = last.temporary if last and last.features.shared is features.shared else None
        return _classes(training, number, draws, features, layer)
    # Beside episodes the whole method is trained, its features with it.
    classes = _classes(training, number, draws, dataclasses.replace(features, shared=None))
    assert stage.classes_weight is not None
    return EpisodesObjective(method, draws, classes, stage.classes_weight, stage.classes_batch)


def _classes(
    training: Training, number: int, draws: Draws, features: Features, layer: nn.Module | None = None
) -> ClassesObjective:
    """The objective on classes by the method's own layer, or else that of the stage before, or else a new one."""
    if features.class_head is not None:
        return ClassesObjective(training.method, draws, features, features.class_head, None)
    classes = len(training.source.dataset.tables["train"].names)
    width = _width(training, features)
    layer = layer or class_layer(width, classes, training.seed, number).to(training.source.device)
    return ClassesObjective(training.method, draws, features, layer, layer)


def _pretraining_method(training: Training, protocol: AnyProtocol, number: int) -> Method:
    """The method's pretraining method; UserError if it has none."""
    method, card, stage = training.method, training.source.dataset.card, training.budget.stages[number]
    task = task_of(protocol, card.image_shape, card.classes["train"], with_label_delay=True)
    found = seeded(lambda: training_hooks(method).pretraining_method(task), "pretext", training.seed, number)
    if found is None:
        raise UserError(f"stage '{stage.name}' has the objective 'pretext', but {type(method).__name__} has none")
    return found.to(training.source.device)


def _features(training: Training, stage: Stage) -> Features:
    """The method's features; UserError if it has not what the stage's objective needs."""
    features = training_hooks(training.method).memoryless_features()
    if features is None or (stage.objective in ("head", "memoryless") and features.rest is None):
        lacks = "memoryless_features()" if features is None else "memoryless_features() that can be computed once"
        raise UserError(
            f"stage '{stage.name}' has the objective '{stage.objective}', but {type(training.method).__name__} "
            f"has no {lacks}"
        )
    return features


def _width(training: Training, features: Features) -> int:
    """The number D of features of an image."""
    method = training.method
    was_training = method.training
    method.eval()
    with torch.no_grad():
        found = features.net(torch.zeros(2, *method.task.image_shape, device=training.source.device))
    method.train(was_training)
    return found.shape[1]
