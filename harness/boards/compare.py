"""Two entries of a board on the same episodes: the difference in each, and its interval."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.boards.artifacts import scores_of
from harness.boards.standings import Entry, Standings
from harness.evaluation.score import each, mean
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.util.errors import UserError, known_name, unknown


@dataclass(frozen=True)
class Difference:
    """A metric of two entries over the episodes that both have: means and half-widths of 95 % intervals, per cent.

    `first` and `second` are (mean, half-width), and so is `difference`, of the first less the second, episode by
    episode; `better`, `worse` are the shares of episodes, in per cent, in which the first earned more or less.
    """

    metric: str
    first: tuple[float, float]
    second: tuple[float, float]
    difference: tuple[float, float]
    better: float
    worse: float
    episodes: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        return abs(self.difference[0]) > self.difference[1]


def found(standings: Standings, name: str) -> Entry:
    """The best ranked entry of a method, or the entry with the run of that name; UserError if there is none."""
    ranked = [entry for _, entry in standings.ranked]
    for entry in ranked:
        if known_name(name, [entry.newest.method]):
            return entry
    for entry in [*ranked, *(entry for _, entries in standings.apart for entry in entries)]:
        for record in entry.records:
            if record.run == name:
                return Entry((record,), 0, entry.reasons)
    raise unknown("ranked method or run", name, {entry.newest.method for entry in ranked})


def differences(protocol: AnyProtocol, first: Entry, second: Entry, boards: Path) -> list[Difference]:
    """The paired differences of two entries: first in the metric that the board is ranked by, then in those shown.

    An entry's score in an episode is the mean over its seeds. Raises UserError if the two were not scored on the same
    episodes, or scores of single episodes are not kept.
    """
    one, other = first.newest, second.newest
    if (one.digest, one.data.fingerprint) != (other.digest, other.data.fingerprint):
        raise UserError(f"{one.run} and {other.run} were scored on other episodes: protocol or data differ")
    mine, theirs = _by_episode(protocol, first, boards), _by_episode(protocol, second, boards)
    episodes = min(len(next(iter(mine.values()))), len(next(iter(theirs.values()))))
    return [
        _difference(name, mine[name][:episodes], theirs[name][:episodes])
        for name in (protocol.ranking, *protocol.reported)
        if name in mine and name in theirs
    ]


def _by_episode(protocol: AnyProtocol, entry: Entry, boards: Path) -> dict[str, np.ndarray]:
    """Metric to its value in each episode [E], the mean over seeds."""
    seeds = [_values(protocol, record, boards) for record in entry.records]
    return {name: np.mean([values[name] for values in seeds], axis=0) for name in seeds[0]}


def _values(protocol: AnyProtocol, record: Record, boards: Path) -> dict[str, np.ndarray]:
    scores = scores_of(record, boards)
    if scores is None:
        raise UserError(
            f"the scores of single episodes of run {record.run} are not kept with this board; run it again: "
            f"{record.command}"
        )
    return each(protocol, scores)


def _difference(metric: str, first: np.ndarray, second: np.ndarray) -> Difference:
    both = ~(np.isnan(first) | np.isnan(second))
    first, second = first[both], second[both]
    change = first - second
    return Difference(
        metric,
        mean(first)[:2],
        mean(second)[:2],
        mean(change)[:2],
        float(100 * (change > 0).mean()),
        float(100 * (change < 0).mean()),
        len(change),
    )
