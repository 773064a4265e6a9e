"""`harness validate FILE...`: every error of every protocol file, with its line; with --strict what lint finds too."""

from __future__ import annotations

import argparse
import sys

from harness.cli.common import add_data_arguments
from harness.util.errors import UserError, VerificationError
from harness.yaml_files.source_location import YamlError, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="protocol files, or names of shipped protocols")
    parser.add_argument("--strict", action="store_true", help="also run 'harness lint'; its errors and warnings count")
    add_data_arguments(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.cli.lint import linted
    from harness.lint.finding import NOTE
    from harness.protocol.describe import summary
    from harness.protocol.load import load_protocol

    refused = spoiled = 0
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
            print(f"{where}: ok: {protocol.kind}, digest {protocol.digest[:12]}, {summary(protocol)}")
            if args.strict:
                found = [each for each in linted(loaded, args) if each.severity != NOTE]
                spoiled += bool(found)
                for each in found:
                    print(f"{where}: {each}", file=sys.stderr)
    if refused:
        sys.stdout.flush()
        print(f"harness: {refused} of {len(args.files)} files cannot be used", file=sys.stderr)
    if spoiled:
        sys.stdout.flush()
        print(f"harness: {spoiled} of {len(args.files)} files have findings ('harness lint' explains)", file=sys.stderr)
    return UserError.exit_code if refused else VerificationError.exit_code if spoiled else 0
