"""Options that choose a recipe and change it, the same for `harness run` and `harness recipe`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """--budget, --recipe, --lr, --batch and --override."""
    parser.add_argument(
        "--budget", default="quick", choices=("smoke", "quick", "day", "full"), help="how much training"
    )
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="another recipe (default: the method's own)")
    parser.add_argument(
        "--lr", metavar="X", help="the learning rate of every stage; marked on the row (default: the recipe's)"
    )
    parser.add_argument(
        "--batch", metavar="N", help="episodes an update, of every stage; marked on the row (default: the recipe's)"
    )
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another key of every stage, or as 'STAGE.KEY=VALUE' of one; may be repeated; marked on the row",
    )


def changes_of(args: argparse.Namespace) -> dict[str, Any]:
    """What --lr, --batch and --override change of the recipe; UserError where they cannot be read."""
    from harness.training.recipe_changes import parse_changes

    return parse_changes(args.lr, args.batch, args.override)
