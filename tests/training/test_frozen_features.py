"""Features that are computed once an image: what they are, and scoring over them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data.dataset import FixedImages
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.method.interface import Method
from harness.training import frozen_features
from harness.training.frozen_features import FrozenFeatures, OnceSeen, seen_once
from harness.training.interface import Features, training_hooks
from harness.training.state import Training
from tests.helpers.built_in import TRAINED
from tests.helpers.device_runs import CPU, training_on

EPISODES = 12
"""So many are scored at once that no batch of images is of fewer than five."""


WITH_FEATURES = (
    "apl",
    "bauer",
    "cnn_lstm",
    "cpm",
    "deml",
    "gidaris",
    "lstm",
    "matching_net",
    "matching_online",
    "norml",
    "ntm",
    "oml",
    "opn",
    "ppa",
    "protonet",
    "snail",
    "transformer",
)
"""Trained methods that answer from features of single images."""


def features_of(method: Method) -> Features | None:
    """Those over which the rest answers as the method."""
    found = training_hooks(method).memoryless_features()
    return found if found is not None and found.whole else None


def once(training: Training) -> tuple[Method, OnceSeen]:
    """The method over features of the test images, and its source."""
    features = features_of(training.method)
    assert features is not None
    assert features.rest is not None
    frozen = FrozenFeatures(training.method, features, training.source, "test")
    return features.rest, OnceSeen(frozen, training.source)


@pytest.mark.parametrize("name", WITH_FEATURES)
def test_scores_over_features_are_those_on_images_to_the_last_bit(name: str, tmp_path: Path) -> None:
    training = training_on(name, CPU, tmp_path)
    protocol = training.protocol
    seen = evaluate(*once(training), protocol, "test", EPISODES)
    plain = evaluate(training.method, training.source, protocol, "test", EPISODES)
    assert training.method.training
    assert seen.keys() == plain.keys()
    for key, values in plain.items():
        np.testing.assert_array_equal(seen[key], values)


def test_the_methods_above_are_those_that_answer_from_features(tmp_path: Path) -> None:
    assert tuple(name for name in TRAINED if features_of(training_on(name, CPU, tmp_path).method)) == WITH_FEATURES


def test_features_are_those_of_any_batch_of_more_than_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = training_on("protonet", CPU, tmp_path)
    features = features_of(training.method)
    assert features is not None
    whole = FrozenFeatures(training.method, features, training.source, "test")
    images = len(training.source.dataset.tables["test"].members)
    monkeypatch.setattr(frozen_features, "_BATCH", images - 1)  # which leaves one for the last batch
    assert torch.equal(FrozenFeatures(training.method, features, training.source, "test").rows, whole.rows)
    assert len(whole.rows) == images


def test_only_where_images_come_again_do_they_go_through_the_net_once(tmp_path: Path) -> None:
    training = training_on("protonet", CPU, tmp_path)
    method, source, protocol = training.method, training.source, training.protocol
    images, steps = len(source.dataset.tables["test"].members), source.episodes(protocol, "test", 0, [0]).plan.steps
    enough = images // steps + 1
    assert seen_once(method, source, protocol, "test", enough - 1) == (method, source)
    played, often = seen_once(method, source, protocol, "test", enough)
    assert isinstance(often, OnceSeen)
    assert played is not method
    assert isinstance(source, EpisodeSource)


@pytest.mark.parametrize("name", ["cl_lstm", "csn", "resnet20"])
def test_a_method_whose_net_has_memory_is_scored_on_images(name: str, tmp_path: Path) -> None:
    training = training_on(name, CPU, tmp_path)
    method, source = training.method, training.source
    assert seen_once(method, source, training.protocol, "test", 10**6) == (method, source)


def test_episodes_that_a_file_fixes_are_scored_on_their_images(tmp_path: Path) -> None:
    training = training_on("protonet", CPU, tmp_path)
    method, source = training.method, training.source
    table = source.dataset.tables["test"]
    fixed = replace(table, fixed=FixedImages(*np.zeros((2, 1, 1), np.int64)))
    own = EpisodeSource(replace(source.dataset, tables={**source.dataset.tables, "test": fixed}), CPU)
    assert seen_once(method, own, training.protocol, "test", 10**6) == (method, own)
