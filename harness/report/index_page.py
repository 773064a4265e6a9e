"""The index: each board with its best measured entry beside the best published one, and how far papers are reached."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.boards.columns import best_published, budget_of, measured, published_ranking
from harness.boards.markdown import View
from harness.report.figure import shape
from harness.report.forest import MEASURED, PUBLISHED
from harness.report.page import board_file, protocol_file, render, table_file
from harness.report.svg import Scale, add, drawing, markup, tooltip
from harness.tables.reached import Reached

_PLOT, _BAR = 190, 260

_KINDS = {
    "online_few_shot": "online few-shot",
    "delayed_label": "delayed labels",
    "continual": "continual learning",
    "segmentation_distractors": "segmentation with distractors",
    "n_way_k_shot": "N-way K-shot",
    "supervised": "supervised",
}
"""Kinds in words, in the order of their boards."""


@dataclass(frozen=True)
class BoardLine:
    """A board's line: where its page is, what is best on it, and both numbers as a picture."""

    name: str
    href: str
    title: str
    stand_in: bool
    entries: int
    problems: int
    best: str
    method: str
    budget: str
    published: str
    plot: Markup


@dataclass(frozen=True)
class RunLine:
    """A run's line: its state and where its page is."""

    name: str
    href: str
    state: str
    when: str


@dataclass(frozen=True)
class TableLine:
    """A table of a paper: how many of its published numbers are reached."""

    name: str
    title: str
    href: str
    text: str
    bar: Markup


def index_page(
    views: Sequence[View],
    protocols: Sequence[tuple[str, str]],
    tables: Sequence[Reached],
    runs: Sequence[RunLine] = (),
    live: bool = False,
) -> str:
    """HTML of the index of these boards, protocols (name and title), tables and runs."""
    kinds: dict[str, list[BoardLine]] = {}
    for view in sorted(views, key=_place):
        words = _KINDS.get(view.protocol.kind, view.protocol.kind) if view.protocol else "protocol file not shipped"
        kinds.setdefault(words + (", stand-in data" if view.stand_in else ""), []).append(_line(view))
    return render(
        "index.html",
        live=live,
        kinds=kinds,
        protocols=[(name, title, protocol_file(name)) for name, title in protocols],
        tables=[*_tables(tables)],
        runs=runs,
        boards=len(views),
        entries=sum(view.standings.entries for view in views),
    )


def _place(view: View) -> tuple[bool, int, list[tuple[int, str]]]:
    """Boards of real data first, by kind, then by name with numbers in their order."""
    kinds = [*_KINDS]
    kind = view.protocol.kind if view.protocol else ""
    words = [(int(each), "") if each.isdecimal() else (0, each) for each in re.split(r"(\d+)", view.name)]
    return view.stand_in, kinds.index(kind) if kind in kinds else len(kinds), words


def _line(view: View) -> BoardLine:
    ranked, by = view.standings.ranked, view.standings.ranking
    best = ranked[0][1] if ranked else None
    printed = None if view.protocol is None or view.stand_in else best_published(view.protocol)
    return BoardLine(
        view.name,
        board_file(view.name, view.stand_in),
        view.protocol.title if view.protocol else view.name,
        view.stand_in,
        view.standings.entries,
        len(view.board.problems),
        measured(best, by) if best else "–",
        best.newest.method if best else "",
        budget_of(best.newest) or "not trained" if best else "",
        printed or "–",
        _plot(view),
    )


def _plot(view: View) -> Markup:
    """The best measured and the best published value of the board's metric between 0 and 100 %."""
    ranked, by = view.standings.ranked, view.standings.ranking
    summary = ranked[0][1].summary(by) if ranked else None
    values = []
    if view.protocol is not None and not view.stand_in:
        values = [found for each in view.protocol.published if (found := published_ranking(view.protocol, each))]
    said = [f"measured {summary.mean:.1f} %"] if summary else []
    said += [f"published {max(values)[0]:.1f} %"] if values else []
    drawn = drawing(_PLOT, 22, f"{view.name}: {', '.join(said) or 'nothing yet'}")
    scale = Scale(0, 100, 6, _PLOT - 6)
    add(drawn, "line", x1=scale(0), x2=scale(100), y1=11, y2=11, class_="grid")
    for value in (0, 50, 100):
        add(drawn, "line", x1=scale(value), x2=scale(value), y1=7, y2=15, class_="grid")
    if values:
        tooltip(shape(drawn, PUBLISHED, scale(max(values)[0]), 11, 5), said[-1])
    if summary:
        tooltip(shape(drawn, MEASURED, scale(summary.mean), 11, 5), said[0])
    return markup(drawn)


def _tables(tables: Sequence[Reached]) -> Iterator[TableLine]:
    for each in tables:
        if not each.published:
            continue
        text = str(each)
        drawn, at = drawing(_BAR, 14, text), 0.0
        for style, count in (("reached", each.reached), ("below", each.below), ("missing", each.missing)):
            width = _BAR * count / each.published
            add(drawn, "rect", x=at, y=1, width=max(0.0, width - 1), height=12, class_=style)
            at += width
        yield TableLine(each.name, each.title, table_file(each.name), text, markup(drawn))
