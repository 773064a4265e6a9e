"""Small trainings on a device, for tests that compare devices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.score import metrics
from harness.method.options import resolved_options
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import for_data, load_protocol
from harness.testing import tiny_dataset
from harness.training.loop import train
from harness.training.recipe_file import load_budget, recipe_path
from harness.training.state import Limits, Progress, Training

CPU = torch.device("cpu")
UPDATES = 10
_TEST_EPISODES = 20
_PROTOCOLS = {
    "online_few_shot": "omniglot_5way_online",
    "n_way_k_shot": "omniglot_20way_1shot",
    "segmentation_distractors": "fss1000_distractors",
    "supervised": "cifar100_supervised",
}
"""What a method is trained on, by the first of these kinds that it has."""


def training_on(name: str, device: torch.device, folder: Path, least: int = 1, **changes: Any) -> Training:
    """A training of a built-in method on random pixels: its smoke recipe with ten updates, shared by its stages.

    Each has `least` updates; `changes` are of the budget.
    """
    found = load_method(name)
    loaded = load_protocol(next(each for kind, each in _PROTOCOLS.items() if kind in found.cls.kinds))
    protocol = for_data(loaded, "stand-in")
    budget = load_budget(recipe_path(name, found.own_file), loaded, "smoke")
    each = max(least, math.ceil(UPDATES / len(budget.stages)))
    stages = [
        stage.model_copy(update={"episodes": each * (stage.batch or budget.batch), "until_loss": None})
        for stage in budget.stages
    ]
    budget = budget.model_copy(update={"stages": stages, "validation": None, **changes})
    source = EpisodeSource(tiny_dataset(protocol.dataset, 20, 25), device)
    card = source.dataset.card
    task = task_for(found.cls, protocol, card.image_shape, card.classes["train"])
    method = build_method(found.cls, task, resolved_options(found.cls, budget.options), 0, device)
    return Training(method, source, protocol, budget, 0, folder / "checkpoint.safetensors", {}, Limits())


@dataclass(frozen=True)
class Trained:
    """A training that is over, the loss of its first update, and the smoothed loss of its last stage."""

    training: Training
    first: float
    last: float


def trained(name: str, device: torch.device, folder: Path, least: int = 1) -> Trained:
    """The training of `training_on` to its end."""
    folder.mkdir(exist_ok=True)
    training = training_on(name, device, folder, least)
    losses: list[float] = []

    def report(progress: Progress, _: Training, event: str) -> None:
        if event == "update" and progress.last_loss is not None:  # on a GPU it is read an update late
            losses.append(progress.last_loss)

    last = train(training, report).loss
    assert last is not None
    return Trained(training, losses[0], last)


def score_of(training: Training) -> float:
    """The metric by which boards rank, in per cent, of a few test episodes."""
    scores = evaluate(training.method, training.source, training.protocol, "test", _TEST_EPISODES)
    return metrics(training.protocol, scores)[training.protocol.ranking][0]
