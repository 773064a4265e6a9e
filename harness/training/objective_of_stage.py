"""The objective of a stage, made from its words in the recipe; UserError where the method cannot have it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.method.interface import Method
from harness.method.registry import task_of
from harness.protocol.models import AnyProtocol
from harness.training.frozen_features import FrozenFeatures
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
    # The stage is part of the seed, so that two stages of one shape do not see the same episodes.
    seed = philox.key_of("train", training.seed, number)[0]
    draws = Draws(training.source, protocol, seed, training.budget.augment)
    compiled = training.budget.compile and training.source.device.type == "cuda"
    if stage.objective == "pretext":
        return PretrainingObjective(method, draws, _pretraining_method(training, protocol, number), compiled)
    if stage.objective == "classes":
        shared = method.shared_features()
        kept = before.temporary if shared and isinstance(before, ClassesObjective) and before.shared is shared else None
        head, temporary = _class_head(training, number, kept)
        return ClassesObjective(method, draws, head, temporary, shared)
    if stage.objective == "head":
        _feature_width(training, stage)
        frozen = before.frozen if isinstance(before, HeadObjective) else None
        return HeadObjective(method, draws, frozen or FrozenFeatures(method, training.source, "train"))
    if stage.classes_weight is None:
        return EpisodesObjective(method, draws, compiled)
    classes = ClassesObjective(method, draws, *_class_head(training, number))
    return EpisodesObjective(method, draws, compiled, classes, stage.classes_weight, stage.classes_batch)


def _class_head(training: Training, number: int, kept: nn.Module | None = None) -> tuple[nn.Module, nn.Module | None]:
    """The layer that tells the training classes apart, and the same if it does not belong to the method.

    That is the method's own, or else the one `kept` from the stage before, or else a new one.
    """
    width = _feature_width(training, training.budget.stages[number])
    own = training.method.class_head()
    if own is not None:
        return own, None
    classes = len(training.source.dataset.tables["train"].names)
    layer = kept or class_layer(width, classes, training.seed, number).to(training.source.device)
    return layer, layer


def _pretraining_method(training: Training, protocol: AnyProtocol, number: int) -> Method:
    """The method's pretraining method; UserError if it has none."""
    method, card, stage = training.method, training.source.dataset.card, training.budget.stages[number]
    task = task_of(protocol, card.image_shape, card.classes["train"], delay_told=True)
    found = seeded(lambda: method.pretext(task), "pretext", training.seed, number)
    if found is None:
        raise UserError(f"stage '{stage.name}' has the objective 'pretext', but {type(method).__name__} has none")
    return found.to(training.source.device)


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
