"""Streams of episodes: every batch once over workers and ranks, any episode by number, the same whoever makes it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import harness as h
from harness.episodes.stream import EpisodeStream
from harness.util.errors import UserError


@pytest.fixture(scope="module")
def stream(cache: Path) -> EpisodeStream:
    return h.episodes("omniglot_5way_online", "train", 4, "stand-in", episodes=22, cache=cache)


def numbers(batches: object) -> list[int]:
    return [n for each in batches for n in each.plan.episode.tolist()]  # type: ignore[attr-defined]


def test_a_stream_gives_its_episodes_in_order(stream: EpisodeStream) -> None:
    batches = list(stream)
    assert numbers(batches) == list(range(22))
    assert [each.x.shape[1] for each in batches] == [4, 4, 4, 4, 4, 2]


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_share_the_batches(stream: EpisodeStream, workers: int) -> None:
    batches = list(DataLoader(stream, batch_size=None, num_workers=workers))
    assert sorted(numbers(batches)) == list(range(22))
    for each in batches:
        assert torch.equal(each.x, stream[each.plan.episode].x)


def test_ranks_share_the_batches(cache: Path) -> None:
    shards = [
        numbers(
            h.episodes("omniglot_5way_online", "train", 4, "stand-in", episodes=22, rank=rank, ranks=3, cache=cache)
        )
        for rank in range(3)
    ]
    assert sorted(itertools.chain(*shards)) == list(range(22))
    assert shards[1] == [4, 5, 6, 7, 16, 17, 18, 19]


def test_any_episode_is_there_by_number(stream: EpisodeStream) -> None:
    first = next(iter(stream))
    assert torch.equal(stream[2].x[:, 0], first.x[:, 2])
    assert torch.equal(stream[[3, 0]].target, first.target[:, [3, 0]])
    assert stream[0:22:7].plan.episode.tolist() == [0, 7, 14, 21]
    for bad in (22, -1, [0, 22], slice(5, 5)):
        with pytest.raises(IndexError, match="from 0 to 21"):
            stream[bad]


def test_a_stream_without_end_begins_where_it_should(cache: Path) -> None:
    endless = h.episodes("omniglot_5way_online", "train", 2, "stand-in", first=7, cache=cache)
    assert numbers(itertools.islice(endless, 2)) == [7, 8, 9, 10]
    with pytest.raises(IndexError, match="never ends"):
        endless[3:]


def test_the_test_split_has_the_episodes_that_are_scored(cache: Path) -> None:
    found = h.episodes("omniglot_5way_online", "test", data="stand-in", cache=cache)
    assert found.episodes == h.load_protocol("omniglot_5way_online").protocol.test_episodes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "tset"}, "has no tset split"),
        ({"batch": 0}, "there must be something to give"),
        ({"augment": ["mirror"]}, "unknown augmentation 'mirror'"),
        ({"rank": 3, "ranks": 3}, "rank 3 of 3"),
        ({"rank": 0}, "give both"),
    ],
)
def test_what_cannot_be_is_refused(cache: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        h.episodes("omniglot_5way_online", data="stand-in", cache=cache, **change)
