"""`harness new-method NAME`: a working method, its recipe and its test, to begin from."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from harness.cli.common import add_json
from harness.util.shown_text import in_json, shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="in snake case, for example fast_weights; its class is then FastWeights")
    parser.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="the folder to write to")
    add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.method.template import class_name, write_method

    method, recipe, test = write_method(args.name, args.into)
    target = f"{method}:{class_name(args.name)}"
    if args.json:
        print(in_json({"method": target, "recipe": str(recipe), "test": str(test)}))
        return 0
    commands = [
        ["python", "-m", "pytest", str(test)],
        ["harness", "check", target],
        ["harness", "run", "omniglot_5way_online", "--method", target, "--budget", "smoke", "--data", "stand-in"],
    ]
    lines = [f"wrote {method}, {recipe} and {test}", "", "it works as it is:"]
    print(shown("\n".join([*lines, *(f"  {shlex.join(words)}" for words in commands)])))
    return 0
