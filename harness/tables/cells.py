"""Filling a table: the published number of each cell from its protocol file, the measured one from its board."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.boards.columns import budget_of, marks_of, options_of, trained
from harness.boards.entries import Entry
from harness.boards.markdown import View, view_board
from harness.evaluation.summary import Summary
from harness.protocol.episode_models import Published
from harness.protocol.load import load_protocol
from harness.records.option_defaults import all_options
from harness.records.record import Record
from harness.tables.computed import ComputedCost, computed_cost
from harness.tables.definition import Column, CurvePoint, Printed, Row, Table
from harness.util.errors import UserError, unknown
from harness.util.shipped_files import protocol_files


@dataclass(frozen=True)
class MeasuredValue:
    """What was measured here: the mean over seeds, in the column's unit (per cent unless it is a cost).

    `summary` is that of the metric with its interval, None for a cost or a point of a curve; `spread` is the standard
    deviation over seeds, None with one. `entry` is what was measured, the best that fits on the board `board`.
    """

    value: float
    summary: Summary | None
    spread: float | None
    board: str
    entry: Entry

    @property
    def interval(self) -> float | None:
        """Half the width of the 95 % interval; None where there is none."""
        return self.summary.interval if self.summary else None


@dataclass(frozen=True)
class ComputedValue:
    """A cost that was computed at once instead of read from a board."""

    value: float
    cost: ComputedCost


@dataclass(frozen=True)
class PublishedValue:
    """What was printed elsewhere, the spread printed with it, and what to know when comparing it."""

    value: float
    spread: float | None
    note: str


Sources = dict[tuple[str, str | None], str | None]
"""By method and scored weights of a board's rows: the weights that they began from, None for fresh ones."""


@dataclass(frozen=True)
class Cell:
    """One system under one condition; None for what was not measured here, or not published."""

    protocol: str
    measured: MeasuredValue | ComputedValue | None
    published: PublishedValue | None


@dataclass(frozen=True)
class Filled:
    """A table with its cells: `cells[i][j]` is row i under column j."""

    printed: Printed
    cells: tuple[tuple[Cell, ...], ...]


def fill(printed: Printed, boards: Path, read: Iterable[View] = ()) -> Filled:
    """Fills a table from the shipped protocols and from the boards of real data in `boards`; those that were `read`
    already are not read again.

    Raises UserError for a table that names an unknown protocol, or a cell that two published rows fit.
    """
    table = printed.table
    if table.computed:
        return Filled(printed, tuple(_computed(row, table) for row in table.rows))
    needed = sorted({row.protocol or column.protocol for row in table.rows for column in table.columns})
    at_hand = {view.name: view for view in read if not view.stand_in}
    views = {name: at_hand.get(name) or _view(name, boards) for name in needed}
    chosen = any(row.init is not None for row in table.rows)
    sources = {name: _sources(view) if chosen else {} for name, view in views.items()}

    def cell(row: Row, column: Column) -> Cell:
        view = views[row.protocol or column.protocol]
        measured = _measured(view, row, column, sources[view.name])
        return Cell(view.name, measured, _published(view, row, column, table.source))

    return Filled(printed, tuple(tuple(cell(row, column) for column in table.columns) for row in table.rows))


def _computed(row: Row, table: Table) -> tuple[Cell, ...]:
    """A row of costs, none of which is read from a board."""
    assert table.computed is not None
    costs = {
        name: computed_cost(row, name, table.computed)
        for name in {row.protocol or column.protocol for column in table.columns}
    }

    def cell(column: Column) -> Cell:
        name = row.protocol or column.protocol
        cost = costs[name]
        return Cell(name, ComputedValue(cost.of(column), cost) if cost else None, _printed(row, column))

    return tuple(cell(column) for column in table.columns)


def account(measured: MeasuredValue | ComputedValue) -> str:
    """What a reader must know of a measured entry, which need not be the very system of the paper."""
    if isinstance(measured, ComputedValue):
        cost = measured.cost
        return (
            f"computed, {cost.method} on {cost.protocol}: "
            f"{f'options {cost.options}' if cost.options else 'default options'}; {cost.parameters:,} parameters"
        )
    entry, newest = measured.entry, measured.entry.newest
    options, marks = options_of(newest), marks_of(entry)
    parts = [
        f"options {options}" if options else "default options",
        f"budget {budget_of(newest)}, training episodes {trained(entry)}" if newest.budget else "not trained",
        f"marks: {', '.join(marks)}" if marks else "",
        f"{'runs' if len(entry.records) > 1 else 'run'} {', '.join(record.run for record in entry.records)}",
        "all of them from the same weights" if 1 == whole_trainings(entry) < len(entry.records) else "",
    ]
    return f"measured, {newest.method} on {measured.board}: " + "; ".join(filter(None, parts))


def whole_trainings(entry: Entry) -> int:
    """How many trainings an entry is the mean of, of those that begin from the same weights (`--init`) one alone."""
    starts = [record.init for record in entry.records]
    return starts.count(None) + len({*starts} - {None})


def _view(name: str, boards: Path) -> View:
    shipped = protocol_files()
    if name not in shipped:
        raise unknown("protocol", name, shipped)
    return view_board(name, load_protocol(shipped[name]).protocol, boards, stand_in=False)


def _measured(view: View, row: Row, column: Column, sources: Sources) -> MeasuredValue | None:
    """The best ranked entry that is the row's system; what stands apart on its board never counts."""
    entry = next((entry for _, entry in view.standings.ranked if _fits(entry.newest, row, sources)), None)
    if entry is None:
        return None
    if column.metric:
        found = entry.summary(column.metric)
        return MeasuredValue(found.mean, found, found.spread, view.name, entry) if found else None
    values = [_single(record, column) for record in entry.records]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    spread = statistics.stdev(known) if len(known) > 1 else None
    return MeasuredValue(statistics.fmean(known), None, spread, view.name, entry)


def _sources(view: View) -> Sources:
    return {(record.method, record.checkpoint): record.init for _, record in view.board.records}


def _fits(record: Record, row: Row, sources: Sources) -> bool:
    options = all_options(record.target, record.options)
    return (
        record.method == row.method
        and all(name in options and options[name] == value for name, value in row.options.items())
        and (row.init is None or row.init == began_elsewhere(record, sources))
    )


def began_elsewhere(record: Record, sources: Sources) -> bool:
    """Whether training began from weights that did not come from runs of that method on the same board, from fresh
    weights on."""
    start, seen = record.init, set[str]()
    while start is not None:
        if start in seen or (record.method, start) not in sources:
            return True
        seen.add(start)
        start = sources[record.method, start]
    return False


def _single(record: Record, column: Column) -> float | None:
    """What one record has for a column without a metric."""
    if column.curve:
        return _point(record, column.curve)
    if column.cost == "million parameters":
        return record.cost.parameters / 1e6
    return record.cost.gflop_per_step


def _point(record: Record, point: CurvePoint) -> float | None:
    curve = record.curves.get(point.name, [])
    return curve[point.number - 1] if len(curve) >= point.number else None


def _published(view: View, row: Row, column: Column, source: str) -> PublishedValue | None:
    if not column.metric:
        return _printed(row, column)
    found = list(_printed_rows(view, row, column.metric, source))
    if len(found) > 1:
        raise UserError(f"{view.name} has {len(found)} published rows for {row.method} ({row.variant}), {source}")
    if not found:
        return None
    value = found[0].metrics[column.metric]
    mean, *spread = value if isinstance(value, list) else [value]
    return PublishedValue(mean, spread[0] if spread else None, found[0].note)


def _printed(row: Row, column: Column) -> PublishedValue | None:
    return PublishedValue(row.printed[column.name], None, "") if column.name in row.printed else None


def _printed_rows(view: View, row: Row, metric: str, source: str) -> Iterable[Published]:
    for each in view.protocol.published if view.protocol else []:
        if (each.method, each.variant, each.source) == (row.method, row.variant, source) and metric in each.metrics:
            yield each
