"""`harness.results` and `harness.compare`: what is on boards, as tables, and two entries on the same episodes."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from harness.api.checked import checked
from harness.api.named import MethodLike, ProtocolLike, load_method, load_protocol, path_of
from harness.api.result import Result
from harness.boards.columns import budget_of, columns, options_of, why
from harness.boards.compare import Difference, differences, found, of_record
from harness.boards.entries import Entry, summarise
from harness.boards.markdown import View, on_data, view_all, view_board
from harness.boards.outcome import BEHIND
from harness.boards.places import boards_to_read
from harness.boards.standings import Standings
from harness.records.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.plot import Plot

EntryLike: TypeAlias = MethodLike | Result | Record
"""A ranked method (its best entry), a run (its name or record), or a result."""


@dataclass(frozen=True, repr=False)
class Results:
    """The boards of a folder, read and ranked; iterating gives every record, of older and unranked rows too."""

    views: tuple[View, ...]

    def __iter__(self) -> Iterator[Record]:
        return (record for view in self.views for _, record in view.board.records)

    def __repr__(self) -> str:
        return f"{len(self)} rows of {len(self.views)} boards; .to_pandas() is a table of them"

    def _repr_html_(self) -> str:
        """What a notebook shows: the ranked entries of a protocol's boards, or the best of the boards of several."""
        import pandas as pd

        best = len({view.name for view in self.views}) > 1
        rows = [row for view in self.views for row in _ranked(view, 1 if best else None)]
        said = f"{self!r}; {'the best of each' if best else 'those that are ranked'}:" if rows else repr(self)
        return f"<p>{html.escape(said)}</p>" + (pd.DataFrame(rows).to_html(index=False, border=0) if rows else "")

    def __len__(self) -> int:
        return sum(len(view.board.records) for view in self.views)

    @property
    def problems(self) -> list[str]:
        """Lines of the files that cannot be trusted or understood, as 'file:line: what'."""
        return [problem for view in self.views for problem in view.board.problems]

    def to_pandas(self) -> pd.DataFrame:
        """A row a record: board, data, rank (None: not ranked, `why` says why), method, options, budget, seed, the
        episodes of training and test, every metric of the boards with half the width of its interval ('accuracy',
        'accuracy ±', per cent; of this seed alone), cost, marks, and the run's name."""
        import pandas as pd

        return pd.DataFrame([row for view in self.views for row in _rows(view)])

    def plot(self) -> Plot:
        """Intervals of the ranked entries, curves of the best entry of each method, and what accuracy costs, of every
        board with rows. Notebooks show it, `plot().save('x.svg')` writes it."""
        from harness.report.board_page import board_figures
        from harness.report.plot import Plot

        ranked = [view for view in self.views if view.standings.ranked]
        names = ", ".join(f"{view.name} (stand-in)" if view.stand_in else view.name for view in ranked)
        return Plot(names or "no rows", tuple(figure for view in ranked for figure in board_figures(view)))


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two entries of a board on the same episodes; `differences` begins with the metric that the board is ranked by."""

    board: str
    first: Entry
    second: Entry
    differences: tuple[Difference, ...]

    @property
    def difference(self) -> Difference:
        """The difference in the metric that the board is ranked by: of the first less the second."""
        return self.differences[0]

    def __repr__(self) -> str:
        names = [entry.newest.method for entry in (self.first, self.second)]
        lines = [f"{names[0]} less {names[1]} on {self.board}, per cent, {self.difference.episodes} episodes of both"]
        width = max(len(each.metric) for each in self.differences)
        for each in self.differences:
            means = f"{each.first.mean:.2f} - {each.second.mean:.2f}"
            lines.append(f"  {each.metric:<{width}}  {means} = {each.difference.text()}")
        return "\n".join(lines)

    def to_pandas(self) -> pd.DataFrame:
        """A row a metric: means and half-widths of both and of the difference, per cent."""
        import pandas as pd

        rows = []
        for each in self.differences:
            shown = {name: (one.mean, one.interval) for name, one in (("first", each.first), ("second", each.second))}
            pairs = {**shown, "difference": each.difference}
            values = {name: pair[0] for name, pair in pairs.items()} | {f"{k} ±": v[1] for k, v in pairs.items()}
            rest = {"better": each.better, "worse": each.worse, "episodes": each.episodes}
            rows.append({"metric": each.metric, **values, **rest, "excludes zero": each.excludes_zero})
        return pd.DataFrame(rows)

    def as_json(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "board": self.board,
            "first": [record.run for record in self.first.records],
            "second": [record.run for record in self.second.records],
            "differences": [each.as_json() for each in self.differences],
        }


@checked
def results(
    boards: str | Path | None = None,
    protocol: ProtocolLike | None = None,
    data: Literal["real", "stand-in"] | None = None,
) -> Results:
    """What is on the boards of a folder: `harness board`.

    Args:
        boards: the folder, by default `leaderboards`, for stand-in data `runs/boards`.
        protocol: the board of this protocol only.
        data: boards of 'real' or of 'stand-in' data only; None: of both.

    Raises:
        UserError: for a protocol that is not there.
    """
    if protocol is None:
        kinds = {"real": [False], "stand-in": [True], None: [False, True]}[data]
        places = {kind: boards_to_read(path_of(boards), kind) for kind in kinds}
        seen = {folder: view_all(folder) for folder in dict.fromkeys(places.values())}
        return Results(tuple(v for kind in kinds for v in seen[places[kind]] if v.stand_in == kind))
    loaded = load_protocol(protocol)
    own = loaded.protocol.card.stand_in
    wanted = [own] if own else {"real": [False], "stand-in": [True], None: [False, True]}[data]
    views = []
    for stand_in in wanted:
        if data is None and stand_in and not own and loaded.protocol.stand_in is None:
            continue
        folder = boards_to_read(path_of(boards), stand_in, loaded.name)
        views.append(view_board(loaded.name, on_data(loaded, stand_in), folder, stand_in))
    return Results(tuple(views))


@checked
def compare(
    protocol: ProtocolLike,
    first: EntryLike,
    second: EntryLike,
    *,
    data: Literal["real", "stand-in"] | None = None,
    boards: str | Path | None = None,
) -> Comparison:
    """The difference of two entries of a board on the same test episodes, with its interval: `harness compare`.

    Args:
        protocol: whose board it is.
        first: a ranked method (its best entry), a run (its name or record), or a result with all its seeds.
        second: what it is compared with.
        data: the board of 'real' or of 'stand-in' data; None: that which the runs are on, for names that of real data.
        boards: the folder of boards, by default where a result that is given has its rows, or else `leaderboards`, for
            stand-in data `runs/boards`.

    Raises:
        UserError: where the board has no such entry, the two were scored on other episodes, or the scores of single
            episodes are not kept.
    """
    loaded = load_protocol(protocol)
    generated = data == "stand-in" or (data is None and any(map(_on_generated, (first, second))))
    stand_in = generated or loaded.protocol.card.stand_in
    on = on_data(loaded, stand_in)
    given = next((each.boards for each in (first, second) if isinstance(each, Result) and each.boards), None)
    folder = boards_to_read(path_of(boards) or given, stand_in, loaded.name)
    standings = view_board(loaded.name, on, folder, stand_in).standings
    one, other = (_entry(standings, each) for each in (first, second))
    return Comparison(loaded.name, one, other, tuple(differences(on, one, other, folder)))


def _on_generated(entry: EntryLike) -> bool:
    record = entry.record if isinstance(entry, Result) else entry
    return isinstance(record, Record) and record.data.stand_in


def _entry(standings: Standings, entry: EntryLike) -> Entry:
    if isinstance(entry, Result):
        each = [of_record(standings, record) for record in entry.records]
        return replace(each[0], records=tuple(record for one in each for record in one.records))
    if isinstance(entry, Record):
        return of_record(standings, entry)
    return found(standings, entry if isinstance(entry, str) else load_method(entry).name)


def _ranked(view: View, most: int | None) -> list[dict[str, str]]:
    """The ranked entries of a board, at most so many, with the columns that say most."""
    by, ranked = view.standings.ranking, view.standings.ranked[:most]
    board = view.name + " (stand-in)" * view.stand_in
    cells = columns([entry for _, entry in ranked], by, ())
    return [
        {"board": board, "rank": rank, "method": each["method"], "score": f"{each[by]} % {by}"}
        | {name: each[name] for name in ("seeds", "budget", "marks")}
        for (rank, _), each in zip(ranked, cells, strict=True)
    ]


def _rows(view: View) -> Iterator[dict[str, Any]]:
    """A row a record of a board, in the order of its file."""
    places: dict[int, tuple[str | None, str]] = {}
    for place, entry in view.standings.ranked:
        places |= {id(record): (place, "") for record in entry.records}
    for _, entries in view.standings.apart:
        for entry in entries:
            places |= {id(record): (None, why(entry)) for record in entry.records}
    alone = [Entry((record,), 0, ()) for _, record in view.board.records]
    for name in {name: None for entry in alone for name in entry.newest.metrics}:
        summarise(alone, [name])
    for entry in alone:
        record = entry.newest
        rank, reason = places.get(id(record), (None, BEHIND))
        yield {
            "board": view.name,
            "data": record.data.name,
            "stand_in": view.stand_in,
            "rank": rank,
            "why": reason,
            "method": record.method,
            "options": options_of(record),
            "budget": budget_of(record),
            "seed": record.seed,
            "train_episodes": record.train_episodes,
            "test_episodes": record.test_episodes,
            **{name: metric.mean for name, metric in record.metrics.items()},
            **{f"{name} ±": getattr(entry.summary(name), "interval", None) for name in record.metrics},
            "parameters": record.cost.parameters,
            "gflop_per_step": record.cost.gflop_per_step,
            "state_bytes": record.cost.state_bytes,
            "train_seconds": record.train_seconds,
            "marks": json.dumps(record.marks),
            "run": record.run,
            "finished": record.when,
        }
