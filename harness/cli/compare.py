"""`harness compare BOARD METHOD METHOD`: the difference of two entries on the same episodes, with its interval."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from harness.cli.common import add_boards, add_formats, table_width
from harness.cli.text_table import csv_table, text_table, wrap
from harness.util.quantities import counted
from harness.util.shown_text import in_json, shown

if TYPE_CHECKING:
    from harness.boards.compare import Difference
    from harness.boards.entries import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", help="a protocol's name or file")
    parser.add_argument("first", metavar="METHOD", help="a ranked method (its best entry), or the name of a run")
    parser.add_argument("second", metavar="METHOD", help="the method it is compared with")
    parser.add_argument(
        "--data", choices=("real", "stand-in"), default="real", help="the board of real or of generated (stand-in) data"
    )
    add_boards(parser)
    add_formats(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.api.leaderboards import compare

    found = compare(args.board, args.first, args.second, data=args.data, boards=args.boards)
    if args.json:
        print(in_json(found.as_json()))
        return 0
    results = list(found.differences)
    if args.csv:
        print(csv_table(_rows(results), ("metric",)), end="")
        return 0
    width = table_width(args)
    print(shown(_text(found.board, found.first, found.second, results, width)))
    return 0


def _text(board: str, first: Entry, second: Entry, results: list[Difference], width: int) -> str:
    main = results[0]
    names = [entry.newest.method for entry in (first, second)]
    if names[0] == names[1]:
        names = [entry.newest.run for entry in (first, second)]
    better, worse = names if main.difference.mean > 0 else names[::-1]
    if main.excludes_zero:
        verdict = f"{better} is better than {worse} on these episodes: the interval of the difference excludes zero."
    elif main.difference.half is None:
        verdict = "The two have a single episode in common, which does not separate them: it has no interval."
    else:
        verdict = "These episodes do not separate the two: the interval of the difference includes zero."
    above = [
        f"{board}, {counted(main.episodes, 'test episode')}, the same for both; per cent, with 95 % intervals",
        "",
        *(f"{place}: {_named(entry)}" for place, entry in (("first", first), ("second", second))),
        "",
    ]
    below = [
        "",
        verdict,
        "Of a method with one seed it speaks of these trained weights; another training may end elsewhere.",
    ]
    # Columns that have no room together would be torn apart by a terminal, or by wrapping the lines of the table.
    table = text_table(_rows(results), width, ("metric", "difference"))[0]
    return "\n".join([wrap("\n".join(above), width), table, wrap("\n".join(below), width)])


def _rows(results: list[Difference]) -> list[dict[str, str]]:
    return [
        {
            "metric": each.metric,
            "first": each.first.text(2),
            "second": each.second.text(2),
            "difference": each.difference.text(),
            "better in": f"{each.better:.0f} %",
            "worse in": f"{each.worse:.0f} %",
            "episodes": str(each.episodes),
        }
        for each in results
    ]


def _named(entry: Entry) -> str:
    runs = ", ".join(record.run for record in entry.records)
    return f"{entry.newest.method} ({'seeds' if len(entry.records) > 1 else 'run'} {runs})"
