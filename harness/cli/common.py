"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """--data-root, --data and --cache: which data is used and where it is looked for."""
    parser.add_argument(
        "--data",
        choices=("real", "stand-in"),
        default="real",
        help="'stand-in' takes the protocol's generated data set instead of the real one",
    )
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """--data-root and --cache: where data is looked for."""
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="where the real data sets are (default: HARNESS_DATA)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where decoded data is kept (default: HARNESS_CACHE or the user's)",
    )


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """--in-process: where the method that is scored runs."""
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run the method in the harness's own process (not isolated: its code can reach targets and boards)",
    )


def whole_number(text: str) -> int:
    """An option's value that counts something: 0, 1, 2, ..."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, found '{text}'")
    return int(text)
