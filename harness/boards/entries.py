"""Entries of a board: a method under one setting, over its seeds, and its metrics with their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

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
            summarise([self], metric)
        return self._summaries[metric]

    def estimate(self, metric: str) -> intervals.Estimate | None:
        """The mean of a metric that every seed has, and its variance: from single episodes where they are stored, and
        else from the records; None with one episode."""
        if metric not in self._estimates:
            _estimate([self], metric)
        return self._estimates[metric]

    def by_episode(self, metric: str) -> np.ndarray | None:
        """A metric of each seed in each test episode, shares [S, E]; None where it is not stored for all seeds."""
        stored = [values[metric] for values in self.values if values is not None and metric in values]
        if len(stored) < len(self.records) or len({len(each) for each in stored}) > 1:
            return None
        return np.stack(stored)


def summarise(entries: Iterable[Entry], metric: str) -> None:
    """Computes `Entry.summary` of many entries at once: one by one, the calls take ten times as long as what is
    computed."""
    new = [entry for entry in entries if metric not in entry._summaries]
    having = [entry for entry in new if all(metric in record.metrics for record in entry.records)]
    _estimate(having, metric)
    means = [[record.metrics[metric].mean for record in entry.records] for entry in having]
    for entry in new:
        entry._summaries[metric] = None
    for entry, summary in zip(having, summaries([entry._estimates[metric] for entry in having], means), strict=True):
        entry._summaries[metric] = summary


def _estimate(entries: Iterable[Entry], metric: str) -> None:
    """Computes `Entry.estimate` of entries that have the metric; from records, of all with as many seeds at once."""
    by_seeds: dict[int, list[Entry]] = {}
    for entry in entries:
        if metric in entry._estimates:
            continue
        values = entry.by_episode(metric)
        if values is not None and np.isfinite(values).all(0).sum() > 1:
            entry._estimates[metric] = intervals.of_values(values)
        elif any(record.metrics[metric].interval is None for record in entry.records):
            entry._estimates[metric] = None
        else:
            by_seeds.setdefault(len(entry.records), []).append(entry)
    for alike in by_seeds.values():
        found = [[record.metrics[metric] for record in entry.records] for entry in alike]
        means = np.array([[each.mean for each in seeds] for seeds in found])
        halves = np.array([[each.interval for each in seeds] for seeds in found], dtype=float)
        estimates = intervals.of_records(means, halves, [seeds[0].episodes for seeds in found])
        for entry, estimate in zip(alike, estimates, strict=True):
            entry._estimates[metric] = estimate
