"""`harness verify [BOARD]`: score rows again from their weights, and compare with what they claim."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import (
    add_boards,
    add_data_arguments,
    add_fresh_workers,
    add_json,
    add_scoring,
    boards_to_read,
    positive_number,
    thread_number,
)
from harness.cli.notices import notice
from harness.cli.text_table import message
from harness.util.errors import UserError, VerificationError
from harness.util.quantities import counted
from harness.util.shown_text import in_json, in_line

if TYPE_CHECKING:
    from harness.boards.rescoring import Bench
    from harness.boards.verify import Verdict
    from harness.protocol.load import Loaded
    from harness.records.record import Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", nargs="?", help="a protocol's name or file; without it, all boards")
    parser.add_argument(
        "--row",
        type=positive_number,
        action="append",
        metavar="N",
        help="the row in line N of the board's file (default: all rows)",
    )
    parser.add_argument(
        "--episodes",
        type=positive_number,
        metavar="N",
        help="score the first N test episodes only (default, and at most: those of the row)",
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="compare --row with this finished run, a repetition of it"
    )
    parser.add_argument("--method", metavar="NAME", help="the row's method, if it is not part of the harness")
    parser.add_argument("--list", action="store_true", help="only say how each row can be checked")
    add_boards(parser)
    add_scoring(parser)
    add_fresh_workers(parser)
    add_data_arguments(parser)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or auto")
    add_json(parser)
    parser.add_argument(
        "--threads", type=thread_number, metavar="N", help="torch threads (default: as recorded on the row)"
    )


def execute(args: argparse.Namespace) -> int:
    """Prints a verdict a row; 3 if one does not hold, or could not be scored again though it says that it can be, or,
    where rows were asked for by --row, was not scored again for whatever reason; and for a line that is no row, unless
    only others were asked for."""
    if args.run and len(args.row or []) != 1:
        raise UserError("--run is compared with one row: give its --row N")
    if args.row and not args.board:
        raise UserError("--row N is a line of one board: name the board")

    from harness.method.registry import check_name
    from harness.protocol.load import load_protocol

    if args.method:
        check_name(args.method)
    rows, problems = [], list[str]()
    for name in [args.board] if args.board else _all_boards(args):
        for row in _rows(name, load_protocol(name), args, problems):
            rows.append(row)
            if not args.json:
                _show(row, args)
    verdicts = [row.verdict for row in rows if row.verdict]
    counts = Counter(each.outcome for each in verdicts)
    if args.json:
        print(in_json([*(_as_json(row) for row in rows), *map(_problem_as_json, problems)]))
    else:
        outcomes = [f"{number} {outcome}" for outcome, number in counts.items()]
        bad = [counted(len(problems), "line that is no row", "lines that are no rows")] if problems else []
        if outcomes or bad:
            print(", ".join([*outcomes, *bad]))
    wrong = any(each.wrong for each in verdicts) or problems or (args.row and counts["not re-scored"])
    return VerificationError.exit_code if wrong else 0


def _all_boards(args: argparse.Namespace) -> list[str]:
    from harness.api.verify import no_boards
    from harness.boards.store import STAND_IN_FOLDER
    from harness.util.shipped_files import protocol_files

    stand_in = args.data == "stand-in"
    boards = boards_to_read(args, stand_in)
    folder = boards / STAND_IN_FOLDER if stand_in else boards
    names = {path.stem for path in folder.glob("*.jsonl")}
    if not names:
        raise no_boards(boards, stand_in)
    for name in sorted(names - set(protocol_files())):
        notice(f"the protocol '{name}' is not shipped; verify its board by itself: harness verify FILE")
    return sorted(names & set(protocol_files()))


@dataclass(frozen=True)
class Row:
    """A row of a board, what it allows to be checked, and the verdict on it (None with --list)."""

    board: str
    file: str
    line: int
    record: Record
    allows: str
    verdict: Verdict | None
    repeatable: bool
    """Whether only a repetition of the run could show more."""


def _rows(name: str, loaded: Loaded, args: argparse.Namespace, problems: list[str]) -> Iterator[Row]:
    """Each row that was asked for, once the verdict on it is there; what else a board holds that was asked for as a
    whole is added to `problems`."""
    from harness.api.verify import no_such_rows
    from harness.boards.store import board_path, read_board
    from harness.boards.verify import allows

    stand_in = args.data == "stand-in" or loaded.protocol.card.stand_in
    boards = boards_to_read(args, stand_in, loaded.name)
    path = board_path(boards, loaded.name, stand_in)
    board = read_board(path)
    for problem in board.problems:
        notice(problem)
    if not args.row:
        problems += board.problems
    rows = [(line, record) for line, record in board.records if not args.row or line in args.row]
    missing = sorted(set(args.row or ()) - {line for line, _ in rows})
    if missing or not (rows or (problems and not args.row) or not args.board):
        raise no_such_rows(path, board, missing)
    if not rows:
        return
    bench = None if args.list else _bench(loaded, args)
    for line, record in rows:
        verdict = None if bench is None else _verdict(record, bench, boards, args)
        repeatable = verdict is not None and record.checkpoint is not None and not record.kept and not args.run
        yield Row(name, path.name, line, record, allows(record, boards), verdict, repeatable)


def _show(row: Row, args: argparse.Namespace) -> None:
    record = row.record
    named = f"{record.method}, seed {record.seed}, run {record.run}"
    print(message(f"{in_line(row.file)}:{row.line}  {in_line(named)}", sys.stdout))
    if row.verdict is None:
        print(message(f"  {in_line(row.allows)}", sys.stdout))
        return
    print(message(f"  {row.verdict.outcome}: {in_line(row.verdict.said)}", sys.stdout), flush=True)
    if row.repeatable:
        words = ["harness", "verify", row.board, "--row", str(row.line)]
        words += ["--data", "stand-in"] if args.data == "stand-in" else []
        words += ["--boards", str(args.boards)] if args.boards else []
        print(f"  and compare: {shlex.join(words)} --run RUN")


def _as_json(row: Row) -> dict[str, Any]:
    found = {
        "board": row.board,
        "file": row.file,
        "row": row.line,
        "method": row.record.method,
        "seed": row.record.seed,
        "run": row.record.run,
        "allows": row.allows,
    }
    if row.verdict is not None:
        found |= {"outcome": row.verdict.outcome, "message": row.verdict.said, "episodes": row.verdict.episodes}
        found["failed"] = row.verdict.wrong
    return found


def _problem_as_json(problem: str) -> dict[str, Any]:
    """A line that is no row, under the keys that rows have."""
    file, line, said = problem.split(":", 2)
    found = {"board": file.split(".jsonl")[0], "file": file, "row": int(line)}
    return {**found, "outcome": "unreadable", "message": said.strip(), "failed": True}


def _bench(loaded: Loaded, args: argparse.Namespace) -> Bench:
    from harness.api.verify import bench_for

    return bench_for(loaded, args.data, args.data_root, args.cache, args.device, args.in_process, args.fresh_workers)


def _verdict(record: Record, bench: Bench, boards: Path, args: argparse.Namespace) -> Verdict:
    from harness.boards.verify import Verdict, made_again, verified
    from harness.util.threads import torch_threads

    if args.run:
        try:
            return made_again(record, bench, boards, args.run)
        except UserError as error:
            return Verdict("not re-scored", str(error))
    with torch_threads(args.threads or record.hardware.threads):
        return verified(record, bench, boards, args.episodes, args.method)
