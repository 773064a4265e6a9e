"""Two entries of a board on the same episodes: the difference in each, and its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.boards.artifacts import SCORES_FOLDER, not_installed, scores_of
from harness.boards.columns import why
from harness.boards.entries import Entry
from harness.boards.standings import Standings
from harness.evaluation import intervals
from harness.evaluation.score import Each, each
from harness.evaluation.summary import Summary, of_values
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.records.same_run import adds_nothing
from harness.util.errors import UserError, known_name, unknown


@dataclass(frozen=True)
class Difference:
    """A metric of two entries over the episodes that both have, per cent.

    `first` and `second` are what boards show of each, over these episodes. `difference` is the mean of the first less
    the second, episode by episode, with its 95 % interval; `better`, `worse` are the shares of episodes, in per cent,
    in which the first earned more or less.
    """

    metric: str
    first: Summary
    second: Summary
    difference: intervals.Change
    better: float
    worse: float
    episodes: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of the difference excludes zero."""
        return self.difference.excludes_zero

    def as_json(self) -> dict[str, Any]:
        """The difference as plain data."""
        return {
            "metric": self.metric,
            "first": self.first.as_json(),
            "second": self.second.as_json(),
            "difference": {"mean": self.difference.mean, "interval": self.difference.half},
            "excludes_zero": self.excludes_zero,
            "better": self.better,
            "worse": self.worse,
            "episodes": self.episodes,
        }


def found(standings: Standings, name: str) -> Entry:
    """The best ranked entry of a method, or the run of that name, be there a newer one of its setting and seed or not;
    UserError if there is none."""
    ranked = [entry for _, entry in standings.ranked]
    for entry in ranked:
        if known_name(name, [entry.newest.method]):
            return entry
    for alone in _alone(standings):
        if alone.newest.run == name:
            return alone
    for entry in (entry for _, entries in standings.apart for entry in entries):
        if known_name(name, [entry.newest.method]):
            raise UserError(
                f"no row of {entry.newest.method} is ranked here ({why(entry)}); name a run to compare, "
                f"such as {entry.newest.run}"
            )
    error = unknown("ranked method or run", name, {entry.newest.method for entry in ranked})
    raise UserError(f"{error} A run is named as the board shows it; one that went to no board has no row to compare.")


def of_record(standings: Standings, record: Record) -> Entry:
    """The row of this very run, or else of a run of that name; UserError if there is none."""
    alone = [each for each in _alone(standings) if each.newest.run == record.run]
    if not alone:
        raise UserError(f"the board has no row of run {record.run}; one that went to no board has no row to compare")
    return next((each for each in alone if adds_nothing(record, each.newest)), alone[0])


def _alone(standings: Standings) -> Iterator[Entry]:
    """Every row by itself: those that are shown, best first, then the others, newest first."""
    shown = [*(entry for _, entry in standings.ranked), *(each for _, apart in standings.apart for each in apart)]
    yield from (Entry((record,), 0, entry.reasons) for entry in shown for record in entry.records)
    yield from (Entry((record,), 0, ()) for record in reversed(standings.older))


def differences(protocol: AnyProtocol, first: Entry, second: Entry, boards: Path) -> list[Difference]:
    """The paired differences of two entries: first in the metric that the board is ranked by, then in those shown.

    Intervals are over seeds and episodes (`harness.evaluation.intervals`). Raises UserError if the two were not scored
    on the same episodes, or scores of single episodes are not kept. Metrics that both have in no episode are left out.
    """
    one, other = first.newest, second.newest
    if (one.digest, one.data.fingerprint) != (other.digest, other.data.fingerprint):
        raise UserError(f"{one.run} and {other.run} were scored on other episodes: protocol or data differ")
    if one.digest != protocol.digest:
        raise UserError(
            f"{one.run} and {other.run} were scored by another protocol than the present one, so what it measures is "
            f"not known of them: digest {one.digest[:12]}, now {protocol.digest[:12]}"
        )
    if protocol.supervised and len({record.test_episodes for record in (*first.records, *second.records)}) > 1:
        raise UserError(
            f"{one.run} and {other.run} were scored on other images: {one.test_episodes} and {other.test_episodes}, "
            "each from all over the test split"
        )
    mine, theirs = ([_values(protocol, record, boards) for record in entry.records] for entry in (first, second))
    found = [
        _difference(name, _stacked(mine, name), _stacked(theirs, name))
        for name in dict.fromkeys((protocol.ranking, *protocol.reported))
        if all(name in values for values in (*mine, *theirs))
    ]
    if not any(found):
        raise UserError(f"{one.run} and {other.run} have no metric in the same episode")
    return [each for each in found if each]


def _values(protocol: AnyProtocol, record: Record, boards: Path) -> Each:
    scores = scores_of(record, boards)
    if scores is None and not_installed(boards, SCORES_FOLDER):
        raise UserError(
            f"the scores of single episodes of run {record.run} do not come with an installed harness, only with a "
            f"checkout of the project: compare there, or run it again: {record.command}"
        )
    if scores is None:
        raise UserError(
            f"the scores of single episodes of run {record.run} are not kept with this board; run it again: "
            f"{record.command}"
        )
    return each(protocol, scores)


def _stacked(seeds: list[Each], metric: str) -> np.ndarray:
    """A metric of each seed in each episode, shares [S, E]."""
    return np.stack([values[metric] for values in seeds])


def _difference(metric: str, first: np.ndarray, second: np.ndarray) -> Difference | None:
    episodes = min(first.shape[1], second.shape[1])
    first, second = first[:, :episodes], second[:, :episodes]
    both = ~(np.isnan(first).any(0) | np.isnan(second).any(0))
    if not both.any():
        return None
    first, second = first[:, both], second[:, both]
    change = intervals.by_episode(first, second)
    return Difference(
        metric,
        of_values(first),
        of_values(second),
        intervals.paired(first, second),
        float(100 * (change > 0).mean()),
        float(100 * (change < 0).mean()),
        len(change),
    )
