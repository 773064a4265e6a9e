"""A filled table as text in the paper's layout, and as plain data."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from harness.boards.columns import NOTHING
from harness.tables.cells import Cell, ComputedValue, Filled, MeasuredValue, PublishedValue, account
from harness.tables.definition import Column
from harness.tables.reached import reached
from harness.util.text import as_written

READING = (
    "Measured: the mean with its 95 % interval over test episodes, '+ -' where the sides differ (and the number of "
    "seeds, if more than one), of the best entry that the board ranks. Published: as printed. '–': not measured, or "
    "not published."
)
COMPUTED = (
    "Measured: counted at once, of untrained methods as the full budget of their recipe builds them. Published: as "
    "printed. '–': no such method here, or not published."
)

MEASURED, PUBLISHED = "measured", "published"
Pair = tuple[str, str]
"""Measured and published, as they stand in one cell."""


class Notes:
    """Footnotes, numbered in the order in which they are first needed."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, *texts: str) -> str:
        """' [1, 2]' for these texts; '' for none."""
        numbers = [self._numbers.setdefault(text, len(self._numbers) + 1) for text in texts if text]
        return f" [{', '.join(map(str, numbers))}]" if numbers else ""

    def __str__(self) -> str:
        return "\n".join(f"[{number}] {text}" for text, number in self._numbers.items())


def as_text(filled: Filled, width: int) -> str:
    """The table for a terminal of `width` characters, in the characters that standard output has.

    Where it is wider, the columns of each group become a block of their own. Numbered notes say what the measured
    entries were and what to know of the published numbers; what all published rows share is said once.
    """
    table = filled.printed.table
    notes, shared, counts = Notes(), _shared(filled), reached(filled)
    labels, pairs = _contents(filled, shared, notes)
    labels = [[as_written(each, sys.stdout) for each in row] for row in labels]
    pairs = [
        [(as_written(first, sys.stdout), as_written(second, sys.stdout)) for first, second in row] for row in pairs
    ]
    tops = [f"{column.group}\n{column.label}" if column.group else column.label for column in table.columns]
    if table.turned:
        heads, lines = [""], [[top.replace("\n", " ")] for top in tops]
        blocks = [_block(heads, lines, [", ".join(each) for each in labels], [*zip(*pairs, strict=True)])]
    else:
        numbers = range(len(tops))
        blocks = [_block(table.head, labels, tops, pairs)]
        if max(map(len, blocks[0].splitlines())) > width:
            groups = [[*each] for _, each in groupby(numbers, key=lambda j: table.columns[j].group)]
            blocks = [
                _block(table.head, labels, [tops[j] for j in part], [[row[j] for j in part] for row in pairs])
                for group in groups
                for part in _fitting(group, table.head, labels, tops, pairs, width)
            ]
    tail = [
        COMPUTED if table.computed else READING,
        *([f"Published rows: {'; '.join(shared)}."] if shared else []),
        *table.notes,
        _boards(filled),
        *([f"Published numbers, by the end of the interval: {counts}."] if counts.published else []),
    ]
    head = f"{filled.printed.name}: {table.title}\n{filled.printed.paper.citation}"
    words = [_wrapped(as_written(each, sys.stdout), width) for each in (head, "\n".join(tail), str(notes)) if each]
    return "\n\n".join([words[0], *blocks, *words[1:]]) + "\n"


def as_rows(filled: Filled) -> list[dict[str, str]]:
    """The cells one a line: the row's labels, the column, and what was measured and published, with its notes."""
    table = filled.printed.table
    rows = []
    for row, cells in zip(table.rows, filled.cells, strict=True):
        for cell, column in zip(cells, table.columns, strict=True):
            notes = Notes()
            measured, printed = (
                _measured(cell.measured, column, notes),
                _published(cell.published, table.spread, notes, ""),
            )
            noted = [
                account(cell.measured) if cell.measured else "",
                cell.published.note if cell.published else "",
                row.note,
            ]
            rows.append(
                {
                    **dict(zip(table.head, row.labels, strict=False)),
                    "column": column.name,
                    "board": cell.protocol,
                    MEASURED: measured.split(" [")[0],
                    PUBLISHED: printed,
                    "notes": "; ".join(filter(None, noted)),
                }
            )
    return rows


def _fitting(
    group: list[int],
    head: Sequence[str],
    labels: list[list[str]],
    tops: Sequence[str],
    pairs: Sequence[Sequence[Pair]],
    width: int,
) -> list[list[int]]:
    """The columns of a group as one block, or as a block each where one is too wide."""
    block = _block(head, labels, [tops[j] for j in group], [[row[j] for j in group] for row in pairs])
    return [group] if max(map(len, block.splitlines())) <= width else [[j] for j in group]


def _wrapped(text: str, width: int) -> str:
    """Lines wrapped at words; a numbered note is continued beneath its text."""
    return "\n".join(
        textwrap.fill(
            line,
            max(40, width),
            subsequent_indent=" " * (line.index("]") + 2 if line.startswith("[") else 0),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.splitlines()
    )


def as_json(filled: Filled) -> dict[str, Any]:
    """The table as plain data, with every number unrounded."""
    printed, table, counts = filled.printed, filled.printed.table, reached(filled)
    return {
        "table": printed.name,
        "title": table.title,
        "paper": printed.paper.citation,
        "source": table.source or None,
        "published": counts.counts,
        "notes": table.notes,
        "head": table.head,
        "columns": [{"name": each.name, "group": each.group or None, "label": each.label} for each in table.columns],
        "rows": [
            {
                **row.model_dump(include={"labels", "method", "options", "init"}, mode="json"),
                "variant": row.variant or None,
                "note": row.note or None,
                "cells": [_cell_as_json(cell, column) for cell, column in zip(cells, table.columns, strict=True)],
            }
            for row, cells in zip(table.rows, filled.cells, strict=True)
        ],
    }


def _contents(filled: Filled, shared: list[str], notes: Notes) -> tuple[list[list[str]], list[list[Pair]]]:
    """The labels and cells of all rows, marked with their notes."""
    table = filled.printed.table
    labels, pairs = [], []
    for row, cells in zip(table.rows, filled.cells, strict=True):
        own = [_without(cell.published, shared) for cell in cells]
        # A note on all that is published of a row stands at its label, and otherwise where it belongs.
        common = {note for note, cell in zip(own, cells, strict=True) if cell.published}
        at_label = common.pop() if len(common) == 1 else ""
        at_cells = [""] * len(own) if at_label else own
        first, *others = row.labels
        labels.append([first + notes.mark(row.note, at_label), *others])
        pairs.append(
            [
                (_measured(cell.measured, column, notes), _published(cell.published, table.spread, notes, note))
                for cell, column, note in zip(cells, table.columns, at_cells, strict=True)
            ]
        )
    return labels, pairs


def _block(heads: Sequence[str], lines: list[list[str]], tops: Sequence[str], pairs: Sequence[Sequence[Pair]]) -> str:
    """Lines of labels and cells, with what was measured and what was published lined up in each column."""
    from tabulate import tabulate

    widths = [max(len(MEASURED), *(len(measured) for measured, _ in column)) for column in zip(*pairs, strict=True)]

    def joined(pair: Pair, j: int) -> str:
        return f"{pair[0]:<{widths[j]}} | {pair[1]}"

    rows = [[*line, *(joined(pair, j) for j, pair in enumerate(row))] for line, row in zip(lines, pairs, strict=True)]
    headers = [*heads, *(f"{top}\n{joined((MEASURED, PUBLISHED), j)}" for j, top in enumerate(tops))]
    text: str = tabulate(rows, headers, tablefmt="simple", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _measured(measured: MeasuredValue | ComputedValue | None, column: Column, notes: Notes) -> str:
    if measured is None:
        return NOTHING
    if isinstance(measured, ComputedValue):
        return f"{measured.value:.3g}{notes.mark(account(measured))}"
    text = f"{measured.value:.3g}" if column.cost else f"{measured.value:.1f}"
    if measured.summary:
        text = measured.summary.text()
    seeds = len(measured.entry.records)
    return text + (f" ({seeds} seeds)" if seeds > 1 else "") + notes.mark(account(measured))


def _published(published: PublishedValue | None, spread: str, notes: Notes, note: str) -> str:
    if published is None:
        return NOTHING
    text = str(published.value)
    if published.spread is not None:
        text += f" ({published.spread})" if spread == "parentheses" else f" ± {published.spread}"
    return text + notes.mark(note)


def _shared(filled: Filled) -> list[str]:
    """The clauses that the notes of all published numbers have in common."""
    found = [cell.published.note.split("; ") for row in filled.cells for cell in row if cell.published]
    noted = [clauses for clauses in found if clauses != [""]]
    return [clause for clause in (noted or [[]])[0] if all(clause in clauses for clauses in noted)]


def _without(published: PublishedValue | None, shared: list[str]) -> str:
    """What a published number's note says beyond what all of them say."""
    clauses = [each for each in published.note.split("; ") if each not in shared] if published else []
    return f"published: {'; '.join(clauses)}" if any(clauses) else ""


def _boards(filled: Filled) -> str:
    """Which boards and metrics the cells are read from: a shot of a stream is not one of a support set."""
    found: dict[str, dict[str, None]] = {}
    for cells in filled.cells:
        for cell, column in zip(cells, filled.printed.table.columns, strict=True):
            found.setdefault(cell.protocol, {})[_quantity(column)] = None
    if filled.printed.table.computed:
        return (
            "Computed on: " + ", ".join(dict.fromkeys(cell.protocol for cells in filled.cells for cell in cells)) + "."
        )
    return "Read from: " + "; ".join(f"{board} ({', '.join(each)})" for board, each in found.items()) + "."


def _quantity(column: Column) -> str:
    return column.metric or column.cost or f"curve {column.curve.name if column.curve else ''}"


def _cell_as_json(cell: Cell, column: Column) -> dict[str, Any]:
    measured, published = cell.measured, cell.published
    records = measured.entry.records if isinstance(measured, MeasuredValue) else ()
    return {
        "column": column.name,
        "protocol": cell.protocol,
        "quantity": _quantity(column),
        "measured": measured
        and {
            "value": measured.value,
            "interval": getattr(measured, "interval", None),
            "spread": getattr(measured, "spread", None),
            "seeds": [record.seed for record in records],
            "runs": [record.run for record in records],
            "note": account(measured),
        },
        "published": published
        and {"value": published.value, "spread": published.spread, "note": published.note or None},
    }
