"""`harness.episodes`: which episodes of a split there are, and where they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness as h
from harness.evaluation.evaluate import whole_test


@pytest.fixture(autouse=True)
def _cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))


def numbers(stream: h.EpisodeStream) -> list[int]:
    return [number for batch in stream for number in batch.plan.episode.tolist()]


def stream(protocol: str, split: str, **rest: Any) -> h.EpisodeStream:
    return h.episodes(protocol, split, 400, "stand-in", **rest)


def test_test_episodes_end_with_the_last_that_is_scored() -> None:
    last = h.load_protocol("cifarfs_5way_1shot").protocol.test_episodes
    assert last is not None
    assert numbers(stream("cifarfs_5way_1shot", "test", first=last - 3)) == [last - 3, last - 2, last - 1]
    assert numbers(stream("cifarfs_5way_1shot", "test", first=last + 4, episodes=2)) == [last + 4, last + 5]
    with pytest.raises(h.UserError, match=f"{last} episodes are scored, from 0, and first is {last}"):
        stream("cifarfs_5way_1shot", "test", first=last)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_episodes_that_are_images_end_with_the_last_image(split: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    data = h.dataset(images, np.arange(60) % 2, ["train", "train", "test", "test", "validation", "validation"] * 10)

    def stream(split: str, **rest: Any) -> h.EpisodeStream:
        return h.episodes("cifar100_supervised", split, 7, data, **rest)

    whole = stream(split)
    count = len(numbers(whole))
    assert count == whole.source.dataset.table(split).offsets[-1]
    if split == "test":
        assert count == whole_test(whole.protocol, whole.source.dataset)
    assert numbers(stream(split, first=count - 2)) == [count - 2, count - 1]
    with pytest.raises(h.UserError, match=f"has {count} episodes, from 0: there are not 3 from episode {count - 2} on"):
        stream(split, first=count - 2, episodes=3)
    with pytest.raises(h.UserError, match="there are not 1 from episode"):
        stream(split, first=count)
    assert next(iter(stream("train", first=10**6))).plan.episode[0] == 10**6
