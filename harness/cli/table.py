"""`harness table [NAME]`: a table or figure of a paper, measured beside published; without a name, all of them."""

from __future__ import annotations

import argparse
from itertools import groupby

from harness.cli.common import add_boards, add_formats, boards_to_read, table_width
from harness.cli.text_table import csv_table, text_table, wrap
from harness.util.shown_text import in_json, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="for example 'norml table 2' or 'norml 2'; without it, all are listed")
    add_boards(parser)
    add_formats(parser, markdown=True)


def execute(args: argparse.Namespace) -> int:
    if not args.name:
        return _list(args)
    from harness.boards.columns import table as markdown_table
    from harness.tables.cells import fill
    from harness.tables.definition import find_table
    from harness.tables.render import as_json, as_rows, as_text

    filled = fill(find_table(" ".join(args.name)), boards_to_read(args, stand_in=False))
    if args.json:
        print(in_json(as_json(filled)))
    elif args.csv:
        print(csv_table(as_rows(filled), ("row",)), end="")
    elif args.md:
        print(markdown_table(as_rows(filled)))
    else:
        print(shown(as_text(filled, table_width(args))), end="")
    return 0


def _list(args: argparse.Namespace) -> int:
    from harness.boards.columns import NOTHING
    from harness.boards.columns import table as markdown_table
    from harness.boards.markdown import view_all
    from harness.tables.cells import fill
    from harness.tables.definition import all_tables
    from harness.tables.reached import reached

    boards = boards_to_read(args, stand_in=False)
    views, listed, counts = view_all(boards), [], []
    for each in all_tables():
        found = None if each.table.computed else reached(fill(each, boards, views))
        counts.append(found and found.counts)
        listed.append(
            {
                "table": each.name,
                "title": each.table.title,
                "reached": f"{found.reached} of {found.published}" if found and found.published else NOTHING,
                "paper": each.paper.citation,
            }
        )
    if args.json:
        print(in_json([{**row, "reached": count} for row, count in zip(listed, counts, strict=True)]))
    elif args.csv:
        print(csv_table(listed, ("table",)), end="")
    elif args.md:
        print(markdown_table(listed))
    else:
        print(_by_paper(listed, table_width(args)))
    return 0


def _by_paper(listed: list[dict[str, str]], width: int) -> str:
    """The list with each paper named once, above its tables."""
    parts = []
    for paper, group in groupby(listed, key=lambda row: row["paper"]):
        rows = [{name: text for name, text in row.items() if name != "paper"} for row in group]
        parts += [wrap(paper, width), text_table(rows, width, [*rows[0]], ("title",))[0]]
    return "\n\n".join(parts)
