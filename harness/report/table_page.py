"""Pages of the papers' tables: measured beside published numbers, and figures drawn as figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.report.figure import Figure
from harness.report.lines import Series, lines
from harness.report.page import board_file, render
from harness.tables.cells import Cell, Filled, MeasuredValue, account
from harness.tables.definition import Column
from harness.tables.reached import standing


@dataclass(frozen=True)
class Shown:
    """A cell in words: measured, published, and what to know of each."""

    measured: str
    published: str
    note: str
    style: str


def table_page(filled: Filled, boards: Sequence[str]) -> str:
    """HTML of a filled table. `boards` are the names of those that the report has pages of."""
    table = filled.printed.table
    protocols = sorted({cell.protocol for cells in filled.cells for cell in cells})
    return render(
        "table.html",
        up="../",
        name=filled.printed.name,
        title=table.title,
        citation=filled.printed.paper.citation,
        head=table.head,
        columns=[(column.group, column.label) for column in table.columns],
        rows=[
            (row.labels, row.note, [_shown(cell, column) for cell, column in zip(cells, table.columns, strict=True)])
            for row, cells in zip(table.rows, filled.cells, strict=True)
        ],
        notes=table.notes,
        figure_shown=_figure(filled),
        boards=[(name, board_file(name, False) if name in boards else None) for name in protocols],
    )


def _shown(cell: Cell, column: Column) -> Shown:
    measured, published, notes = "–", "–", []
    if cell.measured is not None:
        measured = f"{cell.measured.value:.3g}" if column.cost else f"{cell.measured.value:.1f}"
        if isinstance(cell.measured, MeasuredValue) and cell.measured.summary:
            measured = cell.measured.summary.text()
        notes.append(account(cell.measured))
    if cell.published is not None:
        spread = cell.published.spread
        published = f"{cell.published.value}" + ("" if spread is None else f" ± {spread}")
        notes += [f"published: {cell.published.note}"] if cell.published.note else []
    style = "" if column.cost or not cell.published or not cell.measured else standing(cell)
    return Shown(measured, published, "; ".join(notes), style)


def _figure(filled: Filled) -> Figure | None:
    """A paper's figure as a figure: the columns that are numbered alike along the axis, a line a system and source."""
    table = filled.printed.table
    numbered = [(place, int(column.label)) for place, column in enumerate(table.columns) if column.label.isdecimal()]
    if not table.name.startswith("figure") or len(numbered) < 2:
        return None
    x_label = table.columns[numbered[0][0]].group.lower() or "number"
    return lines(table.title, x_label, "accuracy, %", [*_series(filled, numbered)], bounds=(0, 100))


def _series(filled: Filled, numbered: Sequence[tuple[int, int]]) -> Iterator[Series]:
    number = 0  # a band of some points alone would say that the others are exact
    for row, cells in zip(filled.printed.table.rows, filled.cells, strict=True):
        label = ", ".join(row.labels)
        measured = [(x, cells[place].measured) for place, x in numbered]
        found = [(x, each.value, getattr(each, "interval", None) or 0.0) for x, each in measured if each is not None]
        if found:
            xs, ys, halves = ([*map(float, part)] for part in zip(*found, strict=True))
            yield Series(f"{label}, measured", xs, ys, halves if all(halves) else (), number)
            number += 1
        printed = [(x, each) for x, each in ((x, cells[place].published) for place, x in numbered) if each is not None]
        if printed:
            halves = [each.spread or 0.0 for _, each in printed]
            ys = [each.value for _, each in printed]
            yield Series(
                f"{label}, published", [float(x) for x, _ in printed], ys, halves if all(halves) else (), number
            )
            number += 1
