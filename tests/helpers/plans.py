"""Protocols, plans and strategies that the tests of plans share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from harness.data.cards import CARDS
from harness.data.dataset import ClassTable, card_table
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.protocol.models import KINDS, PROTOCOL, AnyProtocol, StreamProtocol
from harness.testing import class_tables, protocols

NUMBERS = st.lists(st.integers(0, 2**40), min_size=1, max_size=6)
SEEDS = st.integers(0, 1000)
TRAIN = card_table(CARDS["cifar_fs"], "train")
"""64 classes of 600 images."""


def of_kind(kind: str, dataset: str | None = None, scored: Sequence[int] = (0,), **episode: Any) -> Any:
    """A protocol of any kind, on a data set that has what the kind needs."""
    dataset = dataset or {"segmentation_distractors": "fss1000", "supervised": "cifar10"}.get(kind, "cifar_fs")
    scoring = {} if kind in {"continual", "n_way_k_shot", "supervised"} else {"shots": list(scored)}
    return PROTOCOL.validate_python(
        {"kind": kind, "title": "x", "dataset": dataset, "episode": episode, "scoring": scoring}
    )


def stream(
    ways: int, presentations: int, delay: int = 1, order: str = "balanced", dataset: str = "cifar_fs"
) -> StreamProtocol:
    """A stream protocol; delay 1 is kind online_few_shot."""
    late: dict[str, Any] = {"label_delay": delay} if delay > 1 else {}
    kind = "delayed_label" if delay > 1 else "online_few_shot"
    return of_kind(kind, dataset, ways=ways, presentations=presentations, order=order, **late)


def many(protocol: AnyProtocol, episodes: int) -> EpisodePlan:
    """The first training episodes under seed 0, on 64 classes of 600 images."""
    return plan_episodes(protocol, TRAIN, "train", 0, range(episodes))


def together(one: np.ndarray, values: int, other: np.ndarray, others: int) -> np.ndarray:
    """How often each pair of values occurs, [values, others], for draws `one` and `other` [E]."""
    return np.bincount(one * others + other, minlength=values * others).reshape(values, others)


def surprise(counts: np.ndarray, expected: np.ndarray | float, freedom: int) -> float:
    """How far counts are from those expected: Pearson's statistic, in its standard deviations above its mean."""
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float((statistic - freedom) / np.sqrt(2 * freedom))


def dependence(counts: np.ndarray) -> float:
    """How far a table of two draws is from that of independent ones, as in `surprise`."""
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return surprise(counts, expected, (counts.shape[0] - 1) * (counts.shape[1] - 1))


@dataclasses.dataclass(frozen=True)
class Case:
    """What a plan is a function of."""

    protocol: Any
    table: ClassTable
    split: str
    seed: int
    numbers: list[int]

    def plan(self, numbers: Sequence[int] | None = None) -> EpisodePlan:
        return plan_episodes(
            self.protocol, self.table, self.split, self.seed, self.numbers if numbers is None else numbers
        )


@st.composite
def cases(draw: st.DrawFn, kinds: Sequence[str] = tuple(KINDS)) -> Case:
    """Cases of protocols of the given kinds, on any table that holds their episodes."""
    protocol, table = draw(protocols(kinds)), draw(class_tables())
    split = draw(st.sampled_from(["train", "test"]))
    numbers = NUMBERS
    if protocol.kind == "supervised" and split == "test":
        numbers = st.lists(st.integers(0, int(table.offsets[-1]) - 1), min_size=1, max_size=6)
    return Case(protocol, table, split, draw(SEEDS), draw(numbers))
