"""`harness board [PROTOCOL]`: show a board, or the index of all boards; write their Markdown again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.boards.places import STAND_IN_FOLDER, is_shipped
from harness.cli.common import BOARDS, LOCAL_BOARDS, add_boards, add_formats, boards_to_read, table_width
from harness.cli.notices import notice
from harness.util.errors import UserError, unknown
from harness.util.garbage import uncollected
from harness.util.shown_text import in_json

if TYPE_CHECKING:
    from harness.boards.entries import Entry
    from harness.boards.markdown import View
    from harness.protocol.load import Loaded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "protocol",
        nargs="?",
        help="a protocol's name or file, or the file of a board; without it, or for a folder, the index of all boards",
    )
    add_boards(parser)
    parser.add_argument(
        "--data", choices=("real", "stand-in"), default="real", help="the board of real or of generated (stand-in) data"
    )
    add_formats(parser, markdown=True)
    parser.add_argument("--write", action="store_true", help="render the Markdown files again")


@uncollected()
def execute(args: argparse.Namespace) -> int:
    _take_path(args)
    if args.protocol is None:
        return _all(args, _writable(boards_to_read(args, args.data == "stand-in"), args))
    from harness.boards.markdown import on_data, render_board, view_board, write_board, write_index
    from harness.cli.board_text import board_csv, board_text

    loaded = _loaded(args.protocol, [args.boards] if args.boards else [BOARDS, LOCAL_BOARDS])
    stand_in = args.data == "stand-in" or loaded.protocol.card.stand_in
    boards = _writable(boards_to_read(args, stand_in, loaded.name), args)
    view = view_board(loaded.name, on_data(loaded, stand_in), boards, stand_in)
    if args.json:
        print(in_json(board_as_json(view)))
    elif args.md:
        print(render_board(view), end="")
    else:
        print(board_csv(view).rstrip("\n") if args.csv else board_text(view, table_width(args)))
    if args.write:
        write_index(boards, known=write_board(loaded, boards, stand_in))
    return 0


def _take_path(args: argparse.Namespace) -> None:
    """A folder of boards, or the file of one, in place of a protocol's name: what it means as --boards and name."""
    from harness.util.shipped_files import protocol_files

    if args.protocol is None:
        return
    path = Path(args.protocol)
    boards = any(each for place in (path, path / STAND_IN_FOLDER) for each in place.glob("*.jsonl"))
    is_folder = path.is_dir() and (boards or args.protocol not in protocol_files())
    if not is_folder and path.suffix not in {".jsonl", ".md"}:
        return
    if args.boards is not None:
        raise UserError(f"{path} says where the board is, and so does --boards; give one of the two")
    if is_folder:
        args.protocol, args.boards = None, path.parent if path.name == STAND_IN_FOLDER else path
        return
    if not path.with_suffix(".jsonl").is_file():
        raise UserError(f"there is no board '{path.with_suffix('.jsonl')}'")
    args.protocol, args.boards = path.stem, path.parent
    if path.parent.name == STAND_IN_FOLDER:
        args.boards, args.data = path.parent.parent, "stand-in"


def _writable(boards: Path, args: argparse.Namespace) -> Path:
    """The folder, if it is not to be written to or may be."""
    if args.write and is_shipped(boards):
        raise UserError(
            f"there is no board below the working directory; those that come with it are only read: {boards}"
        )
    return boards


def _all(args: argparse.Namespace, boards: Path) -> int:
    from harness.boards.markdown import INDEX_COLUMNS, index_tables, render_index, view_all, write_board, write_index
    from harness.cli.board_text import index_text
    from harness.cli.text_table import csv_table
    from harness.protocol.load import load_protocol
    from harness.util.shipped_files import protocol_files

    views = view_all(boards)
    if args.json:
        print(in_json([board_as_json(view) for view in views]))
    elif args.md:
        print(render_index(views), end="")
    elif args.csv:
        rows = [{"table": name, **row} for name, table in index_tables(views) for row in table]
        print(csv_table(rows, ("table", *INDEX_COLUMNS)), end="")
    else:
        print(index_text(views, table_width(args)))
    if args.write:
        shipped = protocol_files()
        for view in views:
            if view.protocol is None:
                notice(f"'{view.name}' was left as it is; give its protocol: harness board FILE --write")
            else:
                write_board(load_protocol(shipped[view.name]), boards, view.stand_in)
        write_index(boards)
    return 0


def board_as_json(view: View) -> dict[str, Any]:
    """A board as plain data: ranked entries, entries apart, published results, problems."""
    protocol = view.protocol
    return {
        "board": view.name,
        "stand_in": view.stand_in,
        "title": protocol.title if protocol else None,
        "kind": protocol.kind if protocol else None,
        "dataset": protocol.data_name if protocol else None,
        "digest": view.digest,
        "ranking": view.standings.ranking,
        "test_episodes": view.test_episodes,
        "entries": [{"rank": rank, **_entry_as_json(entry)} for rank, entry in view.standings.ranked],
        "apart": [
            {
                "reasons": [f"{heading}: {detail}" for heading, detail in entry.reasons],
                **_entry_as_json(entry),
            }
            for _, entries in view.standings.apart
            for entry in entries
        ],
        "published": [each.model_dump(mode="json") for each in protocol.published] if protocol else [],
        "problems": list(view.board.problems),
    }


def _entry_as_json(entry: Entry) -> dict[str, Any]:
    from harness.boards.columns import marks_of

    newest = entry.newest
    summaries = {name: entry.summary(name) for name in sorted(newest.metrics)}
    return {
        "method": newest.method,
        "target": newest.target,
        "options": newest.options,
        "metrics": {name: each.as_json() for name, each in summaries.items() if each},
        "seeds": [record.seed for record in entry.records],
        "runs": [record.run for record in entry.records],
        "older": entry.older,
        "recipe": newest.recipe,
        "recipe_hash": newest.recipe_hash,
        "budget": newest.budget,
        "budget_cut": newest.budget_cut,
        "precision": newest.precision,
        "init_episodes": newest.init_episodes,
        "train_episodes": [record.train_episodes for record in entry.records],
        "test_episodes": newest.test_episodes,
        "digest": newest.digest,
        "fingerprint": newest.data.fingerprint,
        "cost": newest.cost.model_dump(mode="json"),
        "marks": marks_of(entry),
        "hardware": newest.hardware.model_dump(mode="json"),
    }


def _loaded(name: str, folders: list[Path]) -> Loaded:
    """The protocol of a board; UserError with the nearest name for one that is neither shipped nor a file."""
    from harness.protocol.load import load_protocol
    from harness.util.shipped_files import protocol_files

    if Path(name).exists() or name in protocol_files() or Path(name).suffix in {".yaml", ".yml"}:
        return load_protocol(name)
    mine = {
        path.stem
        for folder in folders
        for place in (folder, folder / STAND_IN_FOLDER)
        for path in place.glob("*.jsonl")
    }
    if name in mine:
        raise UserError(f"protocol '{name}' of that board is not shipped; give its file: harness board FILE")
    raise unknown("protocol", name, {*protocol_files(), *mine})
