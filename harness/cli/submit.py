"""`harness submit RUN`: check a finished run as a whole, and put it on the board."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.common import add_boards, add_json, add_places, add_scoring, boards_to_write
from harness.util.shown_text import in_json, in_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--method", metavar="NAME", help="the run's method, if it is not part of the harness")
    parser.add_argument("--protocol", metavar="FILE", help="the run's protocol, if it is not shipped")
    add_boards(parser)
    parser.add_argument(
        "--store",
        metavar="WHERE",
        help="where the weights are stored: 'checkpoints' (beside the boards; the default for those under 1 MB) "
        "or 'hf://owner/name' (a repository on the Hugging Face hub that you may write to)",
    )
    parser.add_argument("--dry-run", action="store_true", help="verify only; append nothing")
    add_scoring(parser)
    parser.add_argument("--full", action="store_true", help="score all test episodes again, not random batches of them")
    add_places(parser)
    add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.boards.artifacts import check_store, keep
    from harness.boards.markdown import publish
    from harness.boards.submit import Submission, examined, loaded_for
    from harness.runs.folder import read_record

    check_store(args.store)  # now, and not after everything was scored again
    record = read_record(args.run)
    boards = boards_to_write(args, record.data.stand_in)
    submission = Submission(
        folder=args.run,
        record=record,
        loaded=loaded_for(record, args.protocol),
        boards=boards,
        method=args.method,
        data_root=args.data_root,
        cache=args.cache,
        full=args.full,
        in_process=args.in_process,
    )
    checks: list[str] = []

    def holds(line: str) -> None:
        checks.append(line)
        if not args.json:
            print(f"ok  {in_line(line)}", flush=True)

    isolated = examined(submission, holds)
    found = {"run": record.run, "method": record.method, "seed": record.seed, "checks": checks, "board": None}
    if args.dry_run:
        print(in_json(found) if args.json else "nothing was appended (--dry-run)")
        return 0
    # What was seen here counts, whatever the record says of its own scoring.
    row = keep(record, args.run, boards, args.store).model_copy(update={"isolated": isolated})
    path = publish(row, submission.loaded, boards).path
    if args.json:
        print(in_json({**found, "board": str(path)}))
    else:
        print(in_line(f"{record.method}, seed {record.seed}, is on {path}"))
    return 0
