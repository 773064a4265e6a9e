"""`harness validate FILE...`: every error of protocol and recipe files, with its line; with --strict of lint too."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import add_data_arguments
from harness.util.errors import UserError, VerificationError
from harness.yaml_files.source_location import YamlError, shown

if TYPE_CHECKING:
    from harness.method.registry import LoadedMethod


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="protocol or recipe files, or names of shipped protocols or recipes"
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="what the recipes are for, as for 'harness run' (default: the methods that they name)",
    )
    parser.add_argument("--strict", action="store_true", help="also run 'harness lint'; its errors and warnings count")
    add_data_arguments(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.method.registry import load_method
    from harness.training.recipe_checks import recipe_named

    method = load_method(args.method) if args.method else None
    refused = spoiled = 0
    for file in args.files:
        try:
            recipe = recipe_named(file)
            if recipe is not None:
                print(_recipe(recipe, method))
            else:
                spoiled += _protocol(file, args)
        except YamlError as error:
            refused += 1
            print(*error.problems, sep="\n", file=sys.stderr)
        except UserError as error:
            refused += 1
            print(f"{file}: {error}", file=sys.stderr)
    if refused:
        sys.stdout.flush()
        print(f"harness: {refused} of {len(args.files)} files cannot be used", file=sys.stderr)
    if spoiled:
        sys.stdout.flush()
        print(f"harness: {spoiled} of {len(args.files)} files have findings ('harness lint' explains)", file=sys.stderr)
    return UserError.exit_code if refused else VerificationError.exit_code if spoiled else 0


def _recipe(path: Path, method: LoadedMethod | None) -> str:
    """What a valid recipe is, in a line."""
    from harness.training.recipe import BUDGETS
    from harness.training.recipe_checks import check_recipe

    found = check_recipe(path, method)
    whole = "" if found.path == path else f" as part of {shown(found.path)}"
    parts = found.recipe.parts
    budgets = [name for name in BUDGETS if any(name in each.budgets for each in parts)]
    options = "options checked" if found.method else "no options"
    if not found.method and any(budget.options for each in parts for budget in each.budgets.values()):
        options = "options not checked (--method names what it is for)"
    count = "1 part" if len(parts) == 1 else f"{len(parts)} parts"
    return (
        f"{shown(path)}: ok{whole}: recipe of {found.recipe.method}, {count}, budgets {', '.join(budgets)}, "
        f"{options}, tried on {found.protocols} shipped protocols"
    )


def _protocol(file: str, args: argparse.Namespace) -> bool:
    """Prints what a valid protocol is, in a line; returns whether --strict finds anything, which is printed too."""
    from harness.cli.lint import linted
    from harness.lint.finding import NOTE
    from harness.protocol.describe import summary
    from harness.protocol.load import load_protocol

    loaded = load_protocol(file)
    protocol, where = loaded.protocol, shown(loaded.path)
    print(f"{where}: ok: {protocol.kind}, digest {protocol.digest[:12]}, {summary(protocol)}")
    found = [each for each in linted(loaded, args) if each.severity != NOTE] if args.strict else []
    for each in found:
        print(f"{where}: {each}", file=sys.stderr)
    return bool(found)
