"""What a board's records come to: entries (a method under one setting, over its seeds), ranks, rows apart."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from harness.boards import intervals
from harness.evaluation.score import Each
from harness.records.marks import FAILED_CHECK, NOT_CHECKED, PARTIAL_TEST
from harness.records.record import Record

OTHER_DIGEST = "Another protocol digest"
OTHER_DATA = "Other data"
FAILED = "Failed a check"
UNCHECKED = "Not checked"
PARTIAL = "Partial test"
MORE = "More test episodes than the protocol has"
RANKINGS = ("accuracy", "query_accuracy", "joint", "iou")
"""The metrics that boards are ranked by, in the order in which a record without its protocol is asked for them."""

Key = tuple[str, int]

_EVEN = 0.2
"""Sides of an interval that differ by less, as a share of its half-width, are printed as one."""


@dataclass(frozen=True)
class Summary:
    """A metric of an entry, per cent: its mean, the bounds of its 95 % interval (None with one episode), and `spread`,
    the standard deviation over seeds, None with one seed."""

    mean: float
    bounds: tuple[float, float] | None
    spread: float | None

    @property
    def interval(self) -> float | None:
        """Half the width of the interval, which near 0 and 100 % does not lie evenly about the mean."""
        return None if self.bounds is None else (self.bounds[1] - self.bounds[0]) / 2

    def text(self, digits: int = 1) -> str:
        """'97.1 ± 0.2', or where the sides differ '99.8 +0.1 −0.4'."""
        if self.bounds is None:
            return f"{self.mean:.{digits}f}"
        below, above = (max(0.0, each) for each in (self.mean - self.bounds[0], self.bounds[1] - self.mean))
        half = (below + above) / 2
        even = f"{below:.{digits}f}" == f"{above:.{digits}f}" or abs(above - below) <= _EVEN * half
        sides = f" ± {half:.{digits}f}" if even else f" +{above:.{digits}f} -{below:.{digits}f}"
        return f"{self.mean:.{digits}f}{sides}"


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
        return max(self.records, key=lambda record: (record.when, record.seed))

    def summary(self, metric: str) -> Summary | None:
        """A metric over the entry's seeds, with its interval over seeds and episodes (`harness.boards.intervals`); None
        unless every seed has it."""
        if metric not in self._summaries:
            self._summaries[metric] = self._summary(metric)
        return self._summaries[metric]

    def _summary(self, metric: str) -> Summary | None:
        found = [record.metrics[metric] for record in self.records if metric in record.metrics]
        if len(found) < len(self.records):
            return None
        means = [each.mean for each in found]
        estimate = self.estimate(metric)
        return Summary(
            statistics.fmean(means),
            None if estimate is None else intervals.bounds(estimate),
            statistics.stdev(means) if len(means) > 1 else None,
        )

    def estimate(self, metric: str) -> intervals.Estimate | None:
        """The mean of a metric that every seed has, and its variance: from single episodes where they are stored, and
        else from the records; None with one episode."""
        if metric not in self._estimates:
            self._estimates[metric] = self._estimate(metric)
        return self._estimates[metric]

    def _estimate(self, metric: str) -> intervals.Estimate | None:
        values = self.by_episode(metric)
        if values is not None and np.isfinite(values).all(0).sum() > 1:
            return intervals.of_values(values)
        found = [record.metrics[metric] for record in self.records]
        return intervals.of_records([each.mean for each in found], [each.interval for each in found], found[0].episodes)

    def by_episode(self, metric: str) -> np.ndarray | None:
        """A metric of each seed in each test episode, shares [S, E]; None where it is not stored for all seeds."""
        stored = [values[metric] for values in self.values if values is not None and metric in values]
        if len(stored) < len(self.records) or len({len(each) for each in stored}) > 1:
            return None
        return np.stack(stored)


@dataclass(frozen=True)
class Standings:
    """Ranked entries with their rank ('1', '2=', ...), best first by the metric `ranking`, and entries apart
    under their headings."""

    ranking: str
    ranked: tuple[tuple[str, Entry], ...]
    apart: tuple[tuple[str, tuple[Entry, ...]], ...]

    @property
    def entries(self) -> int:
        """How many entries there are, ranked or not."""
        return len(self.ranked) + sum(len(entries) for _, entries in self.apart)


def standings(
    records: Iterable[tuple[int, Record]],
    digest: str,
    test_episodes: int | None,
    ranking: str,
    values: Callable[[Record], Each | None] = lambda _: None,
) -> Standings:
    """Groups a board's records (line number, record) and ranks them by the metric `ranking`.

    `digest` is the protocol's own. The data that rows are compared on are those of most records with that
    digest; if two sets of data are equally common, those of the record in the later line.
    `test_episodes` is what the protocol asks for, None if it asks for the whole split. `values` gives a record's
    metrics in every test episode; without them (None), its own means and intervals are what there is to go by.
    """
    newest, older = _newest(records)
    fingerprint = _common_fingerprint(record for record in newest.values() if record.digest == digest)
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Record]] = {}
    for (row_key, _), record in newest.items():
        reasons = tuple(_reasons(record, digest, fingerprint, test_episodes, ranking))
        groups.setdefault((row_key, reasons), []).append(record)
    entries = [
        (row_key, _entry(group, sum(older[row_key, record.seed] for record in group), reasons, values))
        for (row_key, reasons), group in groups.items()
    ]
    entries.sort(key=lambda each: _order(each[0], each[1], ranking))
    under: dict[str | None, list[Entry]] = {None: [], **{heading: [] for heading in _headings(ranking)}}
    for _, entry in entries:
        under[_heading(entry)].append(entry)
    ranked = under.pop(None)
    return Standings(
        ranking,
        tuple(_ranks(ranked, ranking)),
        tuple((heading, tuple(found)) for heading, found in under.items() if heading and found),
    )


def usual_digest(records: Iterable[tuple[int, Record]]) -> str:
    """The digest of the record in the last line, for where the protocol's file is not at hand; '' if none."""
    newest = max(records, key=lambda each: each[0], default=None)
    return newest[1].digest if newest else ""


def usual_ranking(records: Iterable[tuple[int, Record]]) -> str:
    """What records without a protocol at hand are ranked by: the first of RANKINGS that the newest of them has."""
    newest = max(records, key=lambda each: each[0], default=None)
    metrics = newest[1].metrics if newest else {}
    return next((name for name in RANKINGS if name in metrics), RANKINGS[0])


def _newest(records: Iterable[tuple[int, Record]]) -> tuple[dict[Key, Record], Counter[Key]]:
    """The newest record of each setting and seed, which is the one in the later line, in order of the lines, and how
    many are older.

    A seed that was trained twice would otherwise count twice in a mean over seeds. The run's id is not asked:
    it is the name of a folder, and two people may give one name to different runs.
    """
    latest: dict[Key, Record] = {}
    older: Counter[Key] = Counter()
    for _, record in sorted(records, key=lambda each: each[0]):
        key = (record.row_key, record.seed)
        if latest.pop(key, None):  # so that they are in order of their lines
            older[key] += 1
        latest[key] = record
    return latest, older


def _common_fingerprint(records: Iterable[Record]) -> str | None:
    found = list(records)
    counts = Counter(record.data.fingerprint for record in found)
    last = {record.data.fingerprint: place for place, record in enumerate(found)}
    return max(counts, key=lambda each: (counts[each], last[each], each), default=None)


def _headings(ranking: str) -> tuple[str, ...]:
    """Why a row may stand apart, in the order in which several reasons are weighed."""
    return (OTHER_DIGEST, OTHER_DATA, FAILED, UNCHECKED, PARTIAL, MORE, _without(ranking))


def _without(ranking: str) -> str:
    return f"Without '{ranking}'"


def _reasons(
    record: Record, digest: str, fingerprint: str | None, test_episodes: int | None, ranking: str
) -> Iterable[tuple[str, str]]:
    """Why a record cannot be compared with the others, in the order of the headings."""
    if record.digest != digest:
        yield OTHER_DIGEST, f"digest {record.digest[:12]}, the protocol's is {digest[:12]}"
    elif record.data.fingerprint != fingerprint:
        yield (
            OTHER_DATA,
            f"fingerprint {record.data.fingerprint[:12]}, most rows have {(fingerprint or 'none')[:12]}",
        )
    for mark in record.marks:
        if mark.startswith(FAILED_CHECK):
            yield FAILED, mark
        elif mark == NOT_CHECKED:
            yield UNCHECKED, "the run left the conformance check out"
    if test_episodes is not None and record.test_episodes < test_episodes:
        yield PARTIAL, f"{record.test_episodes} of {test_episodes} test episodes"
    elif PARTIAL_TEST in record.marks:
        yield PARTIAL, f"marked so; {record.test_episodes} test episodes"
    if test_episodes is not None and record.test_episodes > test_episodes:
        yield MORE, f"{record.test_episodes} test episodes, the protocol has {test_episodes}"
    if ranking not in record.metrics:
        yield _without(ranking), f"no metric '{ranking}'"


def _entry(
    records: list[Record],
    older: int,
    reasons: tuple[tuple[str, str], ...],
    values: Callable[[Record], Each | None],
) -> Entry:
    in_order = sorted(records, key=lambda record: record.seed)
    stored = tuple(values(record) for record in in_order)
    return Entry(tuple(in_order), older, reasons, stored)


def _heading(entry: Entry) -> str | None:
    return entry.reasons[0][0] if entry.reasons else None


def _order(row_key: str, entry: Entry, ranking: str) -> tuple[float, str, str]:
    """Best first; the name and the key settle equal values, so that the order never varies."""
    summary = entry.summary(ranking)
    return (-summary.mean if summary else 0.0, entry.newest.method, row_key)


def _ranks(entries: list[Entry], ranking: str) -> Iterable[tuple[str, Entry]]:
    """Ranks of entries sorted by `ranking`.

    An entry shares the rank of the first of that rank if the interval of their difference includes zero; the next rank
    counts all entries before it, as in a race.
    """
    place, leader, tied = 0, entries[0] if entries else None, Counter[int]()
    places = []
    for position, entry in enumerate(entries, start=1):
        assert leader is not None
        if position == 1 or _differ(leader, entry, ranking):
            place, leader = position, entry
        tied[place] += 1
        places.append(place)
    for place, entry in zip(places, entries, strict=True):
        yield f"{place}{'=' if tied[place] > 1 else ''}", entry


def _differ(first: Entry, second: Entry, metric: str) -> bool:
    """Whether the interval of the difference of two entries excludes zero: on the same episodes where they are stored
    for both, and else from their own intervals."""
    mine, theirs = first.by_episode(metric), second.by_episode(metric)
    if mine is not None and theirs is not None and mine.shape[1] == theirs.shape[1] > 1:
        change, half = intervals.paired(mine, theirs)
    else:
        one, other = first.estimate(metric), second.estimate(metric)
        if one is None or other is None:
            return first.newest.metrics[metric].mean != second.newest.metrics[metric].mean
        change, half = intervals.unpaired(one, other)
    return abs(change) > half
