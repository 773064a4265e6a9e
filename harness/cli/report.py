"""`harness report [PROTOCOL or RUN...] --out DIR`: web pages of protocols, boards and runs, one file each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import BOARDS, add_boards, add_json, add_places, boards_to_read
from harness.util.errors import UserError
from harness.util.quantities import counted
from harness.util.shown_text import in_json, shown

if TYPE_CHECKING:
    from harness.boards.markdown import View
    from harness.protocol.load import Loaded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="PROTOCOL|RUN",
        help="a protocol's name or file, or the folder of a run; without any, all boards and tables",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder that pages are written to")
    parser.add_argument(
        "--data",
        choices=("real", "stand-in"),
        default="real",
        help="the boards of real or of generated (stand-in) data",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="the method of runs whose code is not built in, to show what it answered (as for 'harness run')",
    )
    add_boards(parser)
    add_places(parser)
    add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.protocol.load import load_protocol
    from harness.report.build import Site, write_all, write_some
    from harness.report.commands import near
    from harness.report.sources import Places

    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is a file; give a folder")
    places = Places(args.data_root, args.cache, args.method)
    if not args.names:
        written = write_all(Site(args.out, boards_to_read(args, args.data == "stand-in")), places)
    else:
        runs = [near(Path(name)) for name in args.names if Path(name).is_dir()]
        named = [load_protocol(name) for name in args.names if not Path(name).is_dir()]
        found = [(loaded, *_view(loaded, args)) for loaded in named]
        folders = {boards for _, boards, _ in found} or {BOARDS}  # of runs alone, no board is read
        if len(folders) > 1:
            raise UserError("boards of real and of generated data lie in two folders; report them one after the other")
        written = write_some(Site(args.out, folders.pop()), [(loaded, view) for loaded, _, view in found], runs, places)
    if args.json:
        print(in_json({"pages": [str(page) for page in written]}))
        return 0
    print(shown(f"{counted(len(written), 'page')}; open {written[0]}"))
    return 0


def _view(loaded: Loaded, args: argparse.Namespace) -> tuple[Path, View]:
    """A board and the folder that it is in."""
    from harness.boards.markdown import on_data, view_board

    stand_in = args.data == "stand-in" or loaded.protocol.card.stand_in
    boards = boards_to_read(args, stand_in, loaded.name)
    return boards, view_board(loaded.name, on_data(loaded, stand_in), boards, stand_in)
