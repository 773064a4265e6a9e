"""`harness schema`: the JSON Schema of protocol files, of recipes or of sweeps."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.common import add_overwrite
from harness.cli.parser import RawDefaults
from harness.util.errors import UserError
from harness.util.shown_text import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="?",
        choices=("protocol", "recipe", "sweep"),
        default="protocol",
        help="of which files",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it to this .json file instead of printing it")
    add_overwrite(parser)
    parser.formatter_class = RawDefaults
    parser.epilog = (
        "Editors with the YAML language server take it from a first line in the file:\n"
        "  # yaml-language-server: $schema=FILE"
    )


def execute(args: argparse.Namespace) -> int:
    import json

    from harness.protocol.json_schema import file_schema
    from harness.sweep.definition import sweep_schema
    from harness.training.recipe_schema import recipe_schema
    from harness.util.atomic_files import check_new, replacing

    schema = {"protocol": file_schema, "recipe": recipe_schema, "sweep": sweep_schema}[args.files]()
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if args.out is None:
        print(text, end="")
        return 0
    if args.out.suffix != ".json":
        raise UserError(f"--out '{args.out}' must end in .json")
    check_new(args.out, args.overwrite)
    with replacing(args.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(shown(f"wrote {args.out}"))
    return 0
