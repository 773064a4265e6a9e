"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from harness.boards import places
from harness.boards.places import BOARDS, LOCAL_BOARDS


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """--data-root, --data and --cache: which data is used and where it is looked for."""
    parser.add_argument(
        "--data",
        choices=("real", "stand-in"),
        default="real",
        help="'stand-in' takes the protocol's generated data set instead of the real one",
    )
    add_places(parser)


def add_places(
    parser: argparse.ArgumentParser, of_root: str = "where the real data sets are (default: $HARNESS_DATA)"
) -> None:
    """--data-root and --cache: where data is looked for; `of_root` is what is said of the former."""
    parser.add_argument("--data-root", type=Path, metavar="DIR", help=of_root)
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where decoded data are stored (default: $HARNESS_CACHE or ~/.cache/episode-harness)",
    )


def add_boards(parser: argparse.ArgumentParser) -> None:
    """--boards: where boards are read or written."""
    parser.add_argument(
        "--boards",
        type=Path,
        metavar="DIR",
        help=f"where boards are (default: {BOARDS}; of stand-in data: {LOCAL_BOARDS})",
    )


def boards_to_write(args: argparse.Namespace, stand_in: bool) -> Path:
    """The folder that a run's row goes to, as `harness.boards.places` has it."""
    return places.boards_to_write(args.boards, stand_in)


def boards_to_read(args: argparse.Namespace, stand_in: bool, board: str | None = None) -> Path:
    """The folder in which a board is looked for (None: all boards), as `harness.boards.places` has it."""
    return places.boards_to_read(args.boards, stand_in, board)


WIDE = 10_000
"""Characters in a line where every column is shown."""


def add_formats(parser: argparse.ArgumentParser, *, markdown: bool = False) -> None:
    """--wide, --json, --csv (and --md): how a table is printed; without, as wide as the terminal."""
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--wide", action="store_true", help="every column, however wide the terminal is")
    if markdown:
        formats.add_argument("--md", action="store_true", help="print Markdown")
    formats.add_argument("--csv", action="store_true", help="print comma-separated values")
    add_json(formats)


def add_json(parser: argparse._ActionsContainer) -> None:
    """--json: the same facts for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON, with every field, unrounded")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """--overwrite: a file that is there may be replaced."""
    parser.add_argument("--overwrite", action="store_true", help="replace the file if there is one")


def table_width(args: argparse.Namespace) -> int:
    """Characters that a table may be wide."""
    from harness.cli.text_table import terminal_width

    return WIDE if args.wide else terminal_width()


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """--in-process: where the method that is scored runs."""
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run the method in the harness's own process (not isolated: its code can reach targets and boards)",
    )


def add_fresh_workers(parser: argparse.ArgumentParser) -> None:
    """--fresh-workers: nothing carries over from one batch of episodes to the next."""
    parser.add_argument(
        "--fresh-workers",
        action="store_true",
        help="score isolated, and play each batch of episodes in a worker that has seen no other",
    )


def _whole_number(least: int, most: int, said: str) -> Callable[[str], int]:
    """Reads an option's value that is a whole number from `least` to `most` (in words: `said`)."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {said}, found '{text}'")
        return int(text)

    return read


whole_number = _whole_number(0, 10**18 - 1, "10^18 - 1")
positive_number = _whole_number(1, 10**18 - 1, "10^18 - 1")
thread_number = _whole_number(1, 1024, "1024")
