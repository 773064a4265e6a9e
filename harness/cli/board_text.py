"""A board and the index of boards as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness.cli.alike import differences
from harness.cli.text_table import csv_table, text_table, wrap
from harness.util.shown_text import in_line, shown

if TYPE_CHECKING:
    from harness.boards.entries import Entry
    from harness.boards.markdown import View

MORE = "Left out for lack of room: {names}. --wide shows them, --csv and --json have them too."


def board_text(view: View, width: int) -> str:
    """Ranked entries, published results, entries apart with their reasons, and problems of the file."""
    from harness.boards.columns import published_rows, why
    from harness.boards.legend import legend
    from harness.boards.standings import nothing_ranked

    protocol, by = view.protocol, view.standings.ranking
    assert protocol is not None
    episodes = "the whole test split" if view.test_episodes is None else f"{view.test_episodes} test episodes"
    parts = [
        wrap(in_line(protocol.title), width),
        wrap(f"{view.name}: {protocol.kind} on {protocol.data_name}, digest {view.digest[:12]}, {episodes}", width),
    ]
    if view.stand_in:
        parts.append(wrap("Stand-in data: generated, for trying things out. Not to be compared with real data.", width))
    ranked = _ranked(view)
    left_out: list[str] = []
    if ranked:
        own = [entry for _, entry in view.standings.ranked]
        needed = ["rank", "method", by, "seeds", "marks"]
        text, left_out = text_table(ranked, width, needed, _TEXTS, partial(_apart, own, ranked))
        parts += [text, wrap(in_line(legend(protocol, by, without=left_out)), width)]
    else:
        parts.append(nothing_ranked(view.standings))
    if protocol.published and not view.stand_in:
        rows = [_plain(row) for row in published_rows(protocol.published, (*protocol.reported, by))]
        needed = [name for name in rows[0] if name not in ("variant", "source", "note")]
        published = partial(_published_apart, rows)
        table, left = text_table(rows, width, needed, ("variant", "source", "note"), published)
        parts += ["Published elsewhere, not measured here:", table]
        left_out += [name for name in left if name not in left_out]
    for heading, entries in view.standings.apart:
        rows = [
            _plain({"method": each.newest.method, "why": why(each), **cells})
            for each, cells in zip(entries, _cells(entries, view), strict=True)
        ]
        needed, texts = ["method", by, "seeds", "why"], ("why", *_TEXTS)
        table, _ = text_table(rows, width, needed, texts, partial(_apart, entries, rows))
        parts += [f"Not ranked: {in_line(heading)}", table]
    if view.board.problems:
        problems = [wrap(f"- {in_line(each)}", width, "  ") for each in view.board.problems]
        parts.append("\n".join(["Problems in the file:", *problems]))
    if left_out:
        parts.append(wrap(MORE.format(names=", ".join(left_out)), width))
    return "\n\n".join(parts)


def board_csv(view: View) -> str:
    """Every entry of a board with all its columns; those that are not ranked have no rank but the reason."""
    from harness.boards.columns import why

    apart = [
        {"rank": "", **cells, "not ranked": why(entry)}
        for _, entries in view.standings.apart
        for entry, cells in zip(entries, _cells(entries, view), strict=True)
    ]
    ranked = [{**row, "not ranked": ""} for row in _ranked(view)]
    return csv_table([_plain(row) for row in [*ranked, *apart]], ("rank", *_first(view), "not ranked"))


def index_text(views: list[View], width: int) -> str:
    """One line a board, and one table for each metric that boards are ranked by."""
    from harness.boards.markdown import index_tables

    parts = []
    for heading, rows in index_tables(views):
        shown_rows = [_plain({name: text for name, text in row.items() if name != "file"}) for row in rows]
        texts = ("best measured", "best published", "title")
        table, _ = text_table(shown_rows, width, ("board", "best measured"), texts)
        parts += [f"{heading}:", table]
    return "\n\n".join(parts) or "No boards yet: `harness run PROTOCOL --method NAME` writes the first row."


_TELLING = {"training episodes": "{} training episodes", "run": "run {}"}
"""How cells are called where their column is not there."""

_TEXTS = ("marks", "options", "run", "hardware", "recipe", "budget", "state growth")


def _ranked(view: View) -> list[dict[str, str]]:
    ranked = view.standings.ranked
    found = _cells([entry for _, entry in ranked], view)
    return [_plain({"rank": rank, **cells}) for (rank, _), cells in zip(ranked, found, strict=True)]


def _cells(entries: Sequence[Entry], view: View) -> list[dict[str, str]]:
    """The columns of entries, the most telling first: they are left out from the end."""
    from harness.boards.columns import columns

    assert view.protocol is not None
    cells = columns(entries, view.standings.ranking, view.protocol.reported)
    return [{**{name: every[name] for name in _first(view)}, **every} for every in cells]


def _first(view: View) -> tuple[str, ...]:
    """The most telling columns of a board's entries."""
    assert view.protocol is not None
    by = view.standings.ranking
    return "method", by, "seeds", "marks", "budget", "options", *view.protocol.reported, "training episodes"


def _apart(entries: Sequence[Entry], rows: Sequence[dict[str, str]], columns: Sequence[str]) -> list[str]:
    """What tells entries of one method apart, from the columns that are not there."""
    from harness.boards.columns import option_texts

    others = ("budget", "marks", "training episodes", "recipe", "run")
    contents = [
        {
            "options": option_texts(entry.newest),
            **{name: [_TELLING.get(name, "{}").format(row[name])] for name in others},
        }
        for entry, row in zip(entries, rows, strict=True)
    ]
    found = differences([row["method"] for row in rows], contents, columns)
    return [shown(in_line(text)) for text in found]


def _published_apart(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> list[str]:
    contents = [{name: [row[name]] for name in ("variant", "source", "note")} for row in rows]
    return differences([row["method"] for row in rows], contents, columns)


def _plain(row: dict[str, str]) -> dict[str, str]:
    return {name: shown(in_line(text)) for name, text in row.items()}
