"""`harness validate FILE...`: every error of protocol and recipe files, with its line; with --strict of lint too."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import add_data_arguments, add_json
from harness.cli.text_table import message, terminal_width, wrap
from harness.util import shown_text
from harness.util.errors import UserError, VerificationError
from harness.util.quantities import counted
from harness.yaml_files.source_location import YamlError, shown

if TYPE_CHECKING:
    from harness.lint import Finding
    from harness.method.registry import LoadedMethod
    from harness.yaml_files.source_location import Problem


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
    add_json(parser)


@dataclasses.dataclass(frozen=True)
class Checked:
    """What came of one file: `facts` of a valid one and `line`, these in words; or else what is wrong with it."""

    file: str
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    line: str = ""
    findings: tuple[Finding, ...] = ()
    problems: tuple[Problem, ...] = ()
    error: str = ""

    @property
    def valid(self) -> bool:
        return bool(self.line)


def execute(args: argparse.Namespace) -> int:
    from harness.method.registry import load_method

    method = load_method(args.method) if args.method else None
    files = []
    for file in args.files:
        files.append(_checked(file, method, args))
        if not args.json:
            _show(files[-1])
    if args.json:
        print(shown_text.in_json([_as_json(each) for each in files]))
    refused = sum(not each.valid for each in files)
    spoiled = sum(bool(each.findings) for each in files)
    sys.stdout.flush()
    if refused:
        print(f"harness: {refused} of {len(files)} files cannot be used", file=sys.stderr)
    if spoiled:
        have = "has" if spoiled == 1 else "have"
        print(f"harness: {spoiled} of {len(files)} files {have} findings ('harness lint' explains)", file=sys.stderr)
    return UserError.exit_code if refused else VerificationError.exit_code if spoiled else 0


def _checked(file: str, method: LoadedMethod | None, args: argparse.Namespace) -> Checked:
    from harness.training.recipe_checks import recipe_named

    try:
        recipe = recipe_named(file)
        return _recipe(file, recipe, method) if recipe is not None else _protocol(file, args)
    except YamlError as error:
        return Checked(file, problems=error.problems)
    except UserError as error:
        return Checked(file, error=str(error))


def _show(checked: Checked) -> None:
    if checked.valid:
        print(wrap(shown_text.in_line(checked.line), terminal_width(), "  "))
    for each in (*checked.problems, *(f"{checked.facts['path']}: {finding}" for finding in checked.findings)):
        print(message(shown_text.shortened(shown_text.shown(str(each)))), file=sys.stderr)
    if checked.error:
        print(message(shown_text.shortened(shown_text.shown(f"{checked.file}: {checked.error}"))), file=sys.stderr)


def _as_json(checked: Checked) -> dict[str, Any]:
    problems = [{**dataclasses.asdict(each), "path": shown(each.path)} for each in checked.problems]
    return {
        "file": checked.file,
        "valid": checked.valid,
        **checked.facts,
        "findings": [dataclasses.asdict(each) for each in checked.findings],
        "problems": problems or ([{"message": checked.error}] if checked.error else []),
    }


def _recipe(file: str, path: Path, method: LoadedMethod | None) -> Checked:
    from harness.training.recipe import BUDGETS
    from harness.training.recipe_checks import check_recipe

    found = check_recipe(path, method)
    whole = "" if found.path == path else f" as part of {shown(found.path)}"
    parts = found.recipe.parts
    budgets = [name for name in BUDGETS if any(name in each.budgets for each in parts)]
    options = "options checked" if found.method else "no options"
    if not found.method and any(budget.options for each in parts for budget in each.budgets.values()):
        options = "options not checked (--method names what it is for)"
    facts = {
        "path": shown(path),
        "what": "recipe",
        "method": found.recipe.method,
        "parts": len(parts),
        "budgets": budgets,
        "options": options,
        "tried_on": found.protocols,
    }
    count = counted(len(parts), "part")
    line = (
        f"{shown(path)}: ok{whole}: recipe of {found.recipe.method}, {count}, budgets {', '.join(budgets)}, "
        f"{options}, tried on {found.protocols} shipped protocols"
    )
    return Checked(file, facts, line)


def _protocol(file: str, args: argparse.Namespace) -> Checked:
    """A protocol, with what lint finds in it if --strict is given."""
    from harness.cli.lint import linted
    from harness.lint.finding import NOTE
    from harness.protocol.describe import summary
    from harness.protocol.feasibility import data_problem
    from harness.protocol.load import for_data, load_protocol

    loaded = load_protocol(file)
    protocol, where = for_data(loaded, args.data), shown(loaded.path)
    facts = {
        "path": where,
        "what": "protocol",
        "kind": protocol.kind,
        "digest": protocol.digest,
        "summary": summary(protocol),
        "data_problem": data_problem(protocol, args.data_root, loaded.base),
    }
    line = f"{where}: ok: {protocol.kind}, digest {protocol.digest[:12]}, {summary(protocol)}"
    if facts["data_problem"]:
        line += f"; but its data cannot be used here: {' '.join(facts['data_problem'].split())}"
    found = [each for each in linted(loaded, args) if each.severity != NOTE] if args.strict else []
    return Checked(file, facts, line, tuple(found))
