"""`harness new-method NAME`: a working method, its recipe and its test, to begin from."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.common import add_json
from harness.util.shown_text import in_json


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
    print(
        f"wrote {method}, {recipe} and {test}\n\n"
        "it works as it is:\n"
        f"  python -m pytest {test}\n"
        f"  harness check {target}\n"
        f"  harness run omniglot_5way_online --method {target} --budget smoke --data stand-in"
    )
    return 0
