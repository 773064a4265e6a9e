"""Features of a split that took long are kept in the cache, by everything that they are a function of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.data.dataset import Dataset
from harness.episodes.source import EpisodeSource
from harness.training import frozen_features
from harness.training.feature_cache import FeatureCache
from harness.training.frozen_features import FrozenFeatures
from harness.training.interface import Features, training_hooks
from harness.training.loop import train
from harness.training.recipe import Budget
from harness.util.tensor_files import load_tensors, save_tensors
from tests.helpers.device_runs import CPU, training_on


def features_like(
    cache: Path,
    words: list[str],
    weights: float | None = None,
    data: Callable[[Dataset], Dataset] | None = None,
    **changes: Any,
) -> FrozenFeatures:
    """Features of the test images of a training like all others here, but for what is named, with a cache."""
    training = training_on("protonet", CPU, cache.parent)
    features, source = training_hooks(training.method).memoryless_features(), training.source
    assert features is not None
    if weights is not None:
        assert features.shared is not None
        nn.init.constant_(next(features.shared.parameters()), weights)
    if data is not None:
        source = EpisodeSource(data(source.dataset))
    wanted = {"split": "test", **changes}
    return FrozenFeatures(training.method, features, source, cache=FeatureCache(cache, words.append), **wanted)


def backwards(data: Dataset) -> Dataset:
    table = data.tables["test"]
    return replace(data, tables={**data.tables, "test": replace(table, members=table.members[::-1].copy())})


def other_pixels(data: Dataset) -> Dataset:
    return replace(data, fingerprint="0" * 64)


def test_features_that_took_long_come_from_the_cache_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str] = []
    quick = features_like(tmp_path / "cache", words)
    assert words == []  # they took no minute
    monkeypatch.setattr(frozen_features, "SECONDS_WORTH_KEEPING", 0.0)
    kept = features_like(tmp_path / "cache", words)
    assert len(words) == 1
    assert words[0].startswith("features of test images: kept in the cache (")
    monkeypatch.setattr(frozen_features, "_computed", None)  # whatever calls it fails
    again = features_like(tmp_path / "cache", words)
    assert len(words) == 1
    assert torch.equal(again.rows, kept.rows)
    assert torch.equal(again.rows, quick.rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": 0.5},
        {"split": "validation"},
        {"precision": "bf16"},
        {"data": other_pixels},
        {"data": backwards},
    ],
    ids=["weights", "split", "precision", "pixels", "images"],
)
def test_features_of_anything_else_are_computed(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_features, "SECONDS_WORTH_KEEPING", 0.0)
    words: list[str] = []
    features_like(tmp_path / "cache", words)
    features_like(tmp_path / "cache", words, **changes)
    assert len(words) == 2
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2


def test_features_that_are_more_than_what_a_net_gives_are_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key knows the net alone, and not what a method does with its output."""
    monkeypatch.setattr(frozen_features, "SECONDS_WORTH_KEEPING", 0.0)
    training = training_on("protonet", CPU, tmp_path)
    features = training_hooks(training.method).memoryless_features()
    assert features is not None
    assert features.shared is not None
    shared, words = features.shared, list[str]()
    plain, doubled = (
        FrozenFeatures(training.method, each, training.source, "test", cache=FeatureCache(tmp_path / "c", words.append))
        for each in (features, replace(features, net=lambda x: 2 * shared(x)))
    )
    assert torch.equal(doubled.rows, 2 * plain.rows)
    assert len(words) == 1


def test_damaged_features_in_the_cache_are_set_aside_and_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_features, "SECONDS_WORTH_KEEPING", 0.0)
    words: list[str] = []
    kept = features_like(tmp_path / "cache", words)
    path = next((tmp_path / "cache").glob("*.safetensors"))
    tensors, header = load_tensors(path)
    save_tensors(path, {"rows": tensors["rows"] + 1}, header)  # another content than its header says
    again = features_like(tmp_path / "cache", words)
    assert torch.equal(again.rows, kept.rows)
    assert "is damaged" in words[1]
    assert "kept in the cache" in words[2]


def test_a_training_on_the_head_looks_at_cached_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_features, "SECONDS_WORTH_KEEPING", 0.0)
    made: list[str] = []
    computed = frozen_features._computed

    def counted(features: Features, source: EpisodeSource, split: str) -> torch.Tensor:
        made.append(split)
        return computed(features, source, split)

    monkeypatch.setattr(frozen_features, "_computed", counted)
    head = {"objective": "head", "episodes": 2}
    stages = [{**head, "name": "first"}, {**head, "name": "second"}]
    budget = {"batch": 2, "stages": stages, "validation": {"every": 100, "episodes": 200}}
    for place in ("first", "second"):
        training = training_on("ppa", CPU, tmp_path, checkpoint=place)
        cache = FeatureCache(tmp_path / "cache")
        progress = train(replace(training, budget=Budget.model_validate(budget), cache=cache))
        assert [each["stage"] for each in progress.history] == [0, 1]
        assert made == ["train", "validation"]


def test_looks_at_features_that_are_being_trained_leave_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_features, "SECONDS_WORTH_KEEPING", 0.0)
    budget = {
        "batch": 2,
        "stages": [{"name": "episodes", "episodes": 4}],
        "validation": {"every": 2, "episodes": 200},
    }
    training = training_on("ppa", CPU, tmp_path, checkpoint="run")
    cache = FeatureCache(tmp_path / "cache")
    progress = train(replace(training, budget=Budget.model_validate(budget), cache=cache))
    assert len(progress.history) == 2
    assert not list(tmp_path.glob("cache/*.safetensors"))
