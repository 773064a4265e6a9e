"""`harness validate FILE...`: every error of every protocol file, with its line."""

from __future__ import annotations

import argparse
import sys

from harness.errors import UserError
from harness.text.places import YamlError, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="protocol files, or names of shipped protocols")


def execute(args: argparse.Namespace) -> int:
    from harness.load import load_protocol
    from harness.show import summary
    from harness.spec import digest

    refused = 0
    for file in args.files:
        try:
            loaded = load_protocol(file)
        except YamlError as error:
            refused += 1
            print(*error.problems, sep="\n", file=sys.stderr)
        except UserError as error:
            refused += 1
            print(f"{file}: {error}", file=sys.stderr)
        else:
            protocol, where = loaded.protocol, shown(loaded.path)
            print(f"{where}: ok: {protocol.kind}, digest {digest(protocol)[:12]}, {summary(protocol)}")
    if refused:
        sys.stdout.flush()
        print(f"harness: {refused} of {len(args.files)} files cannot be used", file=sys.stderr)
    return UserError.exit_code if refused else 0
