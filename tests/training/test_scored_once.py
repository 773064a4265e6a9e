"""Scoring over features that are computed once an image, as a GPU does it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.training import frozen_features
from harness.training.frozen_features import FrozenFeatures, OnceSeen, scored_once
from harness.training.interface import training_hooks
from tests.helpers.built_in import TRAINED
from tests.helpers.device_runs import CPU, training_on

EPISODES = 12
SINGLE = ("resnet20", "vgg11")
"""See each image once."""


class Elsewhere(EpisodeSource):
    """A source that says that it is on a GPU once it is made."""

    def __init__(self, source: EpisodeSource) -> None:
        super().__init__(source.dataset, CPU)
        self.device = torch.device("cuda")


@pytest.mark.parametrize("name", TRAINED)
def test_answers_are_those_on_the_images(name: str, tmp_path: Path) -> None:
    training = training_on(name, CPU, tmp_path)
    method, source, protocol = training.method, training.source, training.protocol
    features = training_hooks(method).memoryless_features()
    if features is None or features.rest is None:
        pytest.skip("needs the images themselves")
    once = OnceSeen(FrozenFeatures(method, features, source, "test"), source)
    seen = evaluate(features.rest, once, protocol, "test", EPISODES)
    plain = evaluate(method, source, protocol, "test", EPISODES)
    assert method.training
    assert seen.keys() == plain.keys()
    for key, values in plain.items():
        assert np.nanmean(np.abs(seen[key] - values)) < 0.01  # an answer that is nearly a tie may turn over


def test_images_that_are_seen_often_go_through_the_net_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = training_on("protonet", CPU, tmp_path)
    method, protocol = training.method, training.protocol
    source = Elsewhere(training.source)
    images = len(source.dataset.tables["test"].members)
    steps = source.episodes(protocol, "test", 0, [0]).plan.steps if False else 50
    made: list[str] = []

    def features(*args: object) -> FrozenFeatures:
        made.append("made")
        return FrozenFeatures(method, training_hooks(method).memoryless_features(), training.source, "test")  # type: ignore[arg-type]

    monkeypatch.setattr(frozen_features, "FrozenFeatures", features)
    few, many = images // steps, 4 * images // steps + 1
    assert scored_once(method, source, protocol, "test", few) == (method, source)
    played, once = scored_once(method, source, protocol, "test", many)
    assert made == ["made"]
    assert isinstance(once, OnceSeen)
    assert played is not method
    assert scored_once(method, training.source, protocol, "test", many) == (method, training.source)
