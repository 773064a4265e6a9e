"""`harness table [NAME]`: a table or figure of a paper, measured beside published; without a name, all of them."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from harness.util.shown_text import in_json, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="for example 'norml table 2' or 'norml 2'; without it, all are listed")
    parser.add_argument("--boards", type=Path, default=Path("leaderboards"), metavar="DIR", help="where boards are")
    parser.add_argument("--json", action="store_true", help="print JSON, with unrounded numbers")


def execute(args: argparse.Namespace) -> int:
    if not args.name:
        return _list(args.json)
    from harness.tables.cells import fill
    from harness.tables.definition import find_table
    from harness.tables.render import as_json, as_text

    filled = fill(find_table(" ".join(args.name)), args.boards)
    if args.json:
        print(in_json(as_json(filled)))
    else:
        # A file or a pipe takes any width; a terminal gets blocks that fit it.
        print(shown(as_text(filled, shutil.get_terminal_size((1000, 50)).columns)), end="")
    return 0


def _list(as_json: bool) -> int:
    from harness.tables.definition import all_tables

    tables = all_tables()
    if as_json:
        listed = [{"table": each.name, "title": each.table.title, "paper": each.paper.citation} for each in tables]
        print(in_json(listed))
    else:
        width = max(len(each.name) for each in tables)
        print("\n".join(f"{each.name:<{width}}  {each.table.title}" for each in tables))
    return 0
