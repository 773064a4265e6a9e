"""Every method runs on every kind and data set that it may meet: stand-in data, smoke budget, a few test episodes.

Protocols of one kind and data set differ in delays, orders and counts alone. Each method runs on one of them, the next
method on the next, so that each protocol is run by many methods. The whole smoke budget is spent on one protocol of
each kind, and one update of each of its stages on the others.
"""

from __future__ import annotations

from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.score import metrics
from harness.method.interface import CLASSES, MASKS, Feedback, Method, State, Task, one_hot
from harness.method.options import resolved_options
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import Loaded, for_data, load_protocol
from harness.protocol.models import AnyProtocol
from harness.testing import tiny_dataset
from harness.training.loop import train
from harness.training.recipe import Budget
from harness.training.recipe_file import load_budget, recipe_path
from harness.training.state import Training
from harness.util.shipped_files import protocol_files
from methods import BUILT_IN
from tests.helpers.built_in import TRAINED, UNTRAINED_CLASSES, UNTRAINED_MASKS

SHIPPED: dict[str, Loaded] = {name: load_protocol(name) for name in protocol_files()}
FAMILIES: dict[tuple[str, str], list[str]] = {}
"""Names of the shipped protocols of each kind and data set."""
for _name, _loaded in SHIPPED.items():
    FAMILIES.setdefault((_loaded.protocol.kind, str(_loaded.protocol.dataset)), []).append(_name)
WHOLE = {
    "online_few_shot": "omniglot",
    "delayed_label": "omniglot",
    "continual": "omniglot_lake",
    "n_way_k_shot": "cifar_fs",
    "supervised": "cifar10",
    "segmentation_distractors": "fss1000",
}
"""The data set of each kind on whose protocols the whole smoke budget is spent."""


def pairs(methods: tuple[str, ...]) -> list[tuple[str, str]]:
    """(method, protocol): of every kind that the method plays and every data set of it, one protocol in turn."""
    turns = {family: cycle(names) for family, names in FAMILIES.items()}
    kinds = {method: load_method(method).cls.kinds for method in methods}
    return [(method, next(turns[family])) for method in methods for family in FAMILIES if family[0] in kinds[method]]


@cache
def source(dataset: str, classes: int, images: int) -> EpisodeSource:
    return EpisodeSource(tiny_dataset(dataset, classes, images))


def source_of(protocol: AnyProtocol) -> EpisodeSource:
    """Random pixels in the shape of the protocol's stand-in, just enough of them."""
    assert isinstance(protocol.dataset, str)
    return source(protocol.dataset, 20, 25)


def score_of(method: Method, protocol: AnyProtocol) -> float:
    """The metric of the protocol's board over two test episodes."""
    return metrics(protocol, evaluate(method, source_of(protocol), protocol, "test", 2))[protocol.ranking][0]


def one_update_each(budget: Budget) -> Budget:
    """The budget with one update of each stage, and no validation."""
    stages = [each.model_copy(update={"episodes": each.batch or budget.batch}) for each in budget.stages]
    return budget.model_copy(update={"stages": stages, "validation": None})


def smoke_run(cls: type[Method], path: Path, loaded: Loaded, folder: Path, whole: bool = True) -> float:
    protocol, budget = for_data(loaded, "stand-in"), load_budget(path, loaded, "smoke")
    if not whole:
        budget = one_update_each(budget)
    card = source_of(protocol).dataset.card
    task = task_for(cls, protocol, card.image_shape, card.classes["train"])
    method = build_method(cls, task, resolved_options(cls, budget.options), 0)
    training = Training(method, source_of(protocol), protocol, budget, 0, folder / "checkpoint.safetensors", {})
    progress = train(training)
    assert progress.done
    assert progress.episodes == budget.episodes
    assert bool(progress.history) == (budget.validation is not None)
    return score_of(method, protocol)


def first_alone_is_fast(methods: tuple[str, ...]) -> list[Any]:
    """All pairs, but of each method only the first is not marked as slow."""
    fast = dict(reversed(pairs(methods)))
    marked = {True: (), False: (pytest.mark.slow,)}
    return [pytest.param(method, name, marks=marked[fast[method] == name]) for method, name in pairs(methods)]


@pytest.mark.parametrize(("method", "name"), first_alone_is_fast(TRAINED))
def test_trained_methods_run_on_the_data_sets_of_their_kinds(method: str, name: str, tmp_path: Path) -> None:
    found = load_method(method)
    protocol = SHIPPED[name].protocol
    whole = WHOLE[protocol.kind] == protocol.dataset
    assert 0 <= smoke_run(found.cls, recipe_path(method, found.own_file), SHIPPED[name], tmp_path, whole) <= 100


@pytest.mark.parametrize(("method", "name"), first_alone_is_fast((*UNTRAINED_CLASSES, *UNTRAINED_MASKS)))
def test_methods_without_parameters_run_on_the_data_sets_of_their_kinds(method: str, name: str) -> None:
    protocol, cls = for_data(SHIPPED[name], "stand-in"), load_method(method).cls
    card = source_of(protocol).dataset.card
    assert 0 <= score_of(cls(task_for(cls, protocol, card.image_shape, card.classes["train"])), protocol) <= 100


class Plain(Method):
    """Somebody's own method that brings no recipe: one layer, for classes or masks."""

    kinds = (*CLASSES, *MASKS)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.layer = torch.nn.Conv2d(task.image_shape[0], task.ways, 1)

    def start(self, episodes: int) -> State:
        return self.layer.weight.new_zeros(episodes, self.task.ways)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state if self.task.kind in MASKS else state + one_hot(feedback.target, self.task.ways)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        maps = self.layer(x)
        return (maps if self.task.kind in MASKS else maps.mean((2, 3)) + state), state


def test_the_general_recipe_trains_a_method_of_ones_own_on_every_kind(tmp_path: Path) -> None:
    assert set(WHOLE) == {*CLASSES, *MASKS}
    for name, *_ in (FAMILIES[family] for family in WHOLE.items()):
        path = recipe_path("Plain", tmp_path / "plain.py")
        assert path.stem == "default"
        folder = tmp_path / name
        folder.mkdir()
        assert 0 <= smoke_run(Plain, path, SHIPPED[name], folder) <= 100


def test_every_method_is_run_on_every_data_set_of_its_kinds_and_every_protocol_by_some_method_that_is_trained() -> None:
    run = {*pairs(TRAINED), *pairs((*UNTRAINED_CLASSES, *UNTRAINED_MASKS))}
    assert {method for method, _ in run} == set(BUILT_IN)
    for method in BUILT_IN:
        names = {name for each, name in run if each == method}
        families = {family for family in FAMILIES if family[0] in load_method(method).cls.kinds}
        assert families == {family for family in FAMILIES if names & set(FAMILIES[family])}
    assert {name for _, name in pairs(TRAINED)} == set(SHIPPED)
