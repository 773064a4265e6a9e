"""`harness check METHOD`: prove that a method keeps the contract, on small random tasks."""

from __future__ import annotations

import argparse
import shutil

from harness.cli.common import add_json, add_places
from harness.util.errors import VerificationError
from harness.util.shown_text import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", help="a method's name, or path/to/file.py:ClassName")
    parser.add_argument(
        "--protocol", metavar="P", help="check on this protocol's kind only, with its ways, image shape and label delay"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the method; may be repeated"
    )
    add_places(parser, "show images of the protocol's data set, which is there (default: of a stand-in)")
    add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Prints the report; 0 if no check failed, else 3."""
    from harness.api.conformance import check
    from harness.method.options import parse_options

    report = check(args.method, args.protocol, parse_options(args.set), data_root=args.data_root, cache=args.cache)
    print(report.as_json() if args.json else shown(report.text(shutil.get_terminal_size((100, 24)).columns)))
    return 0 if report.passed else VerificationError.exit_code
