"""`harness lint PROTOCOL`: what is allowed in a protocol and yet spoils it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from typing import TYPE_CHECKING

from harness.cli.common import add_data_arguments, add_json
from harness.cli.text_table import terminal_width, wrap
from harness.util.errors import MissingData, VerificationError
from harness.util.shown_text import in_json, in_line

if TYPE_CHECKING:
    from harness.lint import Finding
    from harness.protocol.load import Loaded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="a protocol file, or the name of a shipped protocol")
    add_json(parser)
    add_data_arguments(parser)


def execute(args: argparse.Namespace) -> int:
    """Prints what was found; 3 if any of it is an error, else 0."""
    from harness.protocol.load import load_protocol

    loaded = load_protocol(args.protocol)
    findings = linted(loaded, args)
    if args.json:
        print(in_json([dataclasses.asdict(each) for each in findings]))
    else:
        print(*(wrap(in_line(str(each)), terminal_width(), "  ") for each in findings), sep="\n")
    failed = any(each.severity == "error" for each in findings)
    if not args.json:
        said = "this protocol measures something other than what it says" if failed else "no errors"
        print(f"{in_line(loaded.name)}: {said}")
    return VerificationError.exit_code if failed else 0


def linted(loaded: Loaded, args: argparse.Namespace) -> tuple[Finding, ...]:
    """The findings on a protocol, on its data if they are here already; nothing is downloaded."""
    from harness.data.open_dataset import load_dataset
    from harness.episodes.fixed import with_episodes
    from harness.lint import lint
    from harness.protocol.load import for_data

    protocol = for_data(loaded, args.data)
    dataset = None
    with contextlib.suppress(MissingData):
        dataset = load_dataset(
            protocol.dataset, data_root=args.data_root, cache=args.cache, download=False, base=loaded.base
        )
        dataset = with_episodes(protocol, dataset, args.cache)
    return lint(dataclasses.replace(loaded, protocol=protocol), dataset)
