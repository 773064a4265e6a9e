"""The rows of a board as cells that a page can sort: their text, and the number or word they are sorted by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from harness.boards.columns import NOTHING, columns, marks_of
from harness.boards.entries import Entry
from harness.records.record import Record
from harness.report.marks import Mark, explained

_HIDDEN = {"recipe", "state growth", "hardware", "run", "state bytes"}
"""Columns that are shown when the reader chooses them."""

_FOLDED = 40
"""Letters of options from which they are folded."""


@dataclass(frozen=True)
class Column:
    """A column: its name, whether it holds numbers, and whether it is shown at first."""

    name: str
    number: bool
    shown: bool


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what it is sorted by (None: its text), and how it is shown."""

    text: str
    sort: float | str | None = None
    style: str = ""
    head: bool = False
    href: str | None = None
    folded: str = ""
    badge: str = ""
    code: bool = False
    marks: Sequence[Mark] = ()


@dataclass(frozen=True)
class Line:
    """One entry's cells, and the budget by which rows can be filtered."""

    budget: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """Columns and rows, and the budgets that occur."""

    columns: Sequence[Column]
    rows: Sequence[Line]
    budgets: Sequence[str]


def board_table(
    ranked: Sequence[tuple[str, Entry]], by: str, others: Sequence[str], run: Callable[[Record], str | None]
) -> Table:
    """The ranked entries, with the columns of the board's Markdown: metrics first, the one that ranks before all."""
    metrics = {*others, by}
    found = columns([entry for _, entry in ranked], by, others)
    texts = [_metrics_first({"rank": rank, **row}, by, metrics) for (rank, _), row in zip(ranked, found, strict=True)]
    numbers = {name for name in texts[0] if name in metrics} | {
        "rank", "seeds", "training episodes", "parameters", "GFLOP/step", "GFLOP/query", "state bytes",
    }  # fmt: skip
    shown = [Column(name, name in numbers, name not in _HIDDEN) for name in texts[0]]
    rows = [
        Line(
            entry.newest.budget or "not trained",
            [_cell(name, text, place, entry, name in metrics, run) for name, text in line.items()],
        )
        for place, (line, (_, entry)) in enumerate(zip(texts, ranked, strict=True))
    ]
    return Table(shown, rows, sorted({row.budget for row in rows}))


def _metrics_first(texts: dict[str, str], by: str, metrics: Collection[str]) -> dict[str, str]:
    first = [name for name in ("rank", "method", by) if name in texts]
    return {name: texts[name] for name in dict.fromkeys([*first, *(each for each in texts if each in metrics), *texts])}


def _cell(name: str, text: str, place: int, entry: Entry, metric: bool, run: Callable[[Record], str | None]) -> Cell:
    newest, cost = entry.newest, entry.newest.cost
    if metric:
        summary = entry.summary(name)
        return Cell(text, summary.mean if summary else "", "n")
    if name == "rank":
        return Cell(text, place, "n")
    if name == "method":
        return Cell(text, head=True, href=run(newest))
    if name == "options":
        count = len(text.split(", "))
        return Cell(text, style="wide", folded=f"{count} options" if len(text) > _FOLDED else "")
    if name == "budget" and text != NOTHING:
        return Cell(text, badge=newest.budget if newest.budget in {"smoke", "quick", "day", "full"} else "other")
    if name == "marks":
        return Cell(text, style="marks", marks=[explained(mark) for mark in marks_of(entry)])
    if name == "run":
        return Cell(text, code=True)
    values: dict[str, float | None] = {
        "seeds": len(entry.records),
        "training episodes": newest.train_episodes + newest.init_episodes,
        "parameters": cost.parameters,
        "GFLOP/step": cost.gflop_per_step,
        "GFLOP/query": cost.gflop_per_query,
        "state bytes": cost.state_bytes,
    }
    if name in values:
        value = values[name]
        return Cell(text, "" if value is None else value, "n")
    return Cell(text)
