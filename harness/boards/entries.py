"""Entries of a board: a method under one setting, over its seeds, and its metrics with their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from harness.evaluation import intervals
from harness.evaluation.score import Each
from harness.evaluation.summary import Summary, summaries
from harness.records.record import Record


@dataclass(frozen=True)
class Entry:
    """Records that differ in their seed alone, one a seed, in order of the seeds.

    `older` counts the records that a newer one of the same setting and seed stands for.
    `reasons` says why the entry is not ranked: (heading, detail), none for a ranked one.
    `values` has for each record its metrics in every test episode, where they are stored. What is computed of an entry
    is computed once: sorting, ranks and every column ask for it.
    """

    records: tuple[Record, ...]
    older: int
    reasons: tuple[tuple[str, str], ...]
    values: tuple[Each | None, ...] = field(default=(), compare=False, repr=False)
    _summaries: dict[str, Summary | None] = field(default_factory=dict, init=False, compare=False, repr=False)
    _estimates: dict[str, intervals.Estimate | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @cached_property
    def newest(self) -> Record:
        """The record that was finished last; what the seeds share is read from it."""
        if len(self.records) == 1:
            return self.records[0]
        return max(self.records, key=lambda record: (record.when, record.seed))

    def summary(self, metric: str) -> Summary | None:
        """A metric over the entry's seeds, with its interval over seeds and episodes (`harness.evaluation.intervals`);
        None unless every seed has it. Of many entries, call `summarise` first."""
        if metric not in self._summaries:
            summarise([self], [metric])
        return self._summaries[metric]

    def estimate(self, metric: str) -> intervals.Estimate | None:
        """The mean of a metric that every seed has, and its variance: from single episodes where they are stored, and
        else from the records; None with one episode."""
        if metric not in self._estimates:
            summarise([self], [metric])
        return self._estimates[metric]

    def by_episode(self, metric: str) -> np.ndarray | None:
        """A metric of each seed in each test episode, shares [S, E]; None where it is not stored for all seeds."""
        if not self.values or self.values[0] is None:  # as in most entries of a large board
            return None
        stored = [values[metric] for values in self.values if values is not None and metric in values]
        if len(stored) < len(self.records) or len({len(each) for each in stored}) > 1:
            return None
        return np.stack(stored)


class _Recorded(NamedTuple):
    """An entry and what its records say of a metric: of each seed the mean and half the width of its interval, and how
    many episodes they are over."""

    entry: Entry
    means: list[float]
    halves: list[float | None]
    episodes: int


def summarise(entries: Iterable[Entry], metrics: Iterable[str]) -> None:
    """Computes `Entry.summary` of many entries and metrics at once: one by one, the calls take ten times as long as
    what is computed."""
    asked: dict[str, list[_Recorded]] = {name: [] for name in metrics}
    for entry in entries:
        of_seeds = [record.metrics for record in entry.records]
        for name, having in asked.items():
            if name in entry._summaries:
                continue
            found = [metrics[name] for metrics in of_seeds if name in metrics]
            if len(found) == len(of_seeds):
                halves = [each.interval for each in found]
                having.append(_Recorded(entry, [each.mean for each in found], halves, found[0].episodes))
            else:
                entry._summaries[name] = None
    for name, having in asked.items():
        _estimate(having, name)
        every = summaries([each.entry._estimates[name] for each in having], [each.means for each in having])
        for each, summary in zip(having, every, strict=True):
            each.entry._summaries[name] = summary


def _estimate(asked: Iterable[_Recorded], name: str) -> None:
    """Computes `Entry.estimate` of entries; from records, of all with as many seeds at once."""
    by_seeds: dict[int, list[_Recorded]] = {}
    for each in asked:
        values = each.entry.by_episode(name)
        if values is not None and np.isfinite(values).all(0).sum() > 1:
            each.entry._estimates[name] = intervals.of_values(values)
        elif None in each.halves:
            each.entry._estimates[name] = None
        else:
            by_seeds.setdefault(len(each.means), []).append(each)
    for seeds, alike in by_seeds.items():
        means = np.array([mean for each in alike for mean in each.means]).reshape(-1, seeds)
        halves = np.array([half for each in alike for half in each.halves], dtype=float).reshape(-1, seeds)
        estimates = intervals.of_records(means, halves, [each.episodes for each in alike])
        for each, estimate in zip(alike, estimates, strict=True):
            each.entry._estimates[name] = estimate
