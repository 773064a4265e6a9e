"""`harness run PROTOCOL --method NAME`: train, score, and put the row on the board."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import (
    add_boards,
    add_data_arguments,
    add_fresh_workers,
    add_json,
    boards_to_write,
    positive_number,
    thread_number,
)
from harness.cli.notices import notice
from harness.cli.recipe_options import add_recipe_arguments, changes_of
from harness.util.launch import Launch, launched, one_seed
from harness.util.precision import PRECISIONS
from harness.util.quantities import duration, seed_numbers

if TYPE_CHECKING:
    from harness.boards.markdown import View
    from harness.records.record import Record
    from harness.runs.resolve import Prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="a shipped protocol's name, or a YAML file")
    parser.add_argument("--method", required=True, metavar="NAME", help="a method's name, or path/to/file.py:ClassName")
    add_recipe_arguments(parser)
    parser.add_argument("--seeds", "--seed", default="0", metavar="N", help="a seed, or several: 0-2 or 0,3,7")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the method; may be repeated"
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="RUN",
        help="begin from the weights of a finished run or a file; of another method, from what both have (default: "
        "fresh weights)",
    )
    parser.add_argument(
        "--episodes",
        type=positive_number,
        metavar="N",
        help="end training after N episodes, rounded up to whole updates (default: the recipe's)",
    )
    parser.add_argument("--time", metavar="10m", help="at most so much training time: 90s, 10m, 2h (default: no limit)")
    parser.add_argument(
        "--test-episodes",
        type=positive_number,
        metavar="N",
        help="score only the first N test episodes (of a supervised protocol: images, class after class); marked on "
        "the row (default: the protocol's)",
    )
    parser.add_argument(
        "--train-only",
        action="store_true",
        help="train, select by validation and score no test episode; --resume in its place goes on to that",
    )
    parser.add_argument(
        "--searched",
        type=positive_number,
        default=0,
        metavar="N",
        help="mark the row: these hyperparameters had the best validation score of N trials",
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--verify-cache",
        action="store_true",
        help="hash all decoded pixels again, also those that have not changed since they were last checked",
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go")
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="this run folder (default: one in --out, named after the run)"
    )
    add_boards(parser)
    parser.add_argument("--no-board", action="store_true", help="write the run folder only")
    parser.add_argument("--show-board", action="store_true", help="print the whole board at the end")
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and on what; run nothing")
    add_json(parser)
    parser.add_argument("--isolated", action="store_true", help="score the method in a process of its own")
    add_fresh_workers(parser)
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        choices=("tensorboard", "wandb", "trackio", "mlflow"),
        help="also log to this tracker (an extra of the package); may be repeated",
    )
    parser.add_argument("--no-check", action="store_true", help="leave out the conformance check: not ranked")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with an unfinished run")
    again.add_argument("--fresh", action="store_true", help="set an earlier run folder aside and begin again")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument("--threads", type=thread_number, metavar="N", help="torch threads (default: the cores at hand)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="what training may round to: tf32 (a GPU's convolutions and matrix products) or bf16 (convolutions); "
        "scoring is fp32 always (default: the recipe's, fp32)",
    )


def execute(args: argparse.Namespace) -> int:
    seconds = None if args.time is None else duration(args.time, "--time")
    seeds = seed_numbers(args.seeds, "--seeds")

    from harness.method.options import parse_options
    from harness.records.provenance import cores
    from harness.runs.resolve import Request, prepare

    launch = launched()
    if launch is not None:
        one_seed(launch, len(seeds))
    request = Request(
        protocol=args.protocol,
        method=args.method,
        budget=args.budget,
        options=parse_options(args.set),
        recipe=args.recipe,
        changes=changes_of(args),
        episodes=args.episodes,
        seconds=seconds,
        test_episodes=args.test_episodes,
        data=args.data,
        data_root=args.data_root,
        cache=args.cache,
        verify_cache=args.verify_cache,
        out=args.out,
        folder=args.run,
        init=args.init,
        resume=args.resume,
        fresh=args.fresh,
        device=args.device,
        threads=args.threads or max(1, cores() // (launch.local_world if launch else 1)),
        precision=args.precision,
        isolated=args.isolated or args.fresh_workers,
        fresh_workers=args.fresh_workers,
        searched=args.searched,
        command=_command(sys.argv[1:], launch),
    )
    if launch is None:
        return _run(prepare(dataclasses.replace(request, seed=seeds[0])), seeds, args)

    from harness.runs.several_processes import device_of, run_together

    def prepared() -> Prepared:
        return prepare(dataclasses.replace(request, seed=seeds[0], device=device_of(args.device, launch)))

    return run_together(launch, prepared, lambda first: _run(first, seeds, args, launch))


def _run(first: Prepared, seeds: list[int], args: argparse.Namespace, launch: Launch | None = None) -> int:
    from harness.runs.resolve import with_seeds

    for note in first.resolved.notes:
        notice(note)
    if args.dry_run:
        from harness.cli.dry_run import shown_plan

        print(shown_plan(first, seeds, None if args.no_board else boards_to_write(args, first.stand_in), args.json))
        return 0
    return _run_all(with_seeds(first, seeds), args, launch)


def _run_all(runs: list[Prepared], args: argparse.Namespace, launch: Launch | None) -> int:
    from harness.boards.row import publish_run
    from harness.runs.resolve import resumed_or_begun
    from harness.runs.run import run, train_only
    from harness.runs.status import resuming
    from harness.tracking import tracker
    from harness.util.atomic_files import check_writable

    boards = None if args.no_board or args.train_only else boards_to_write(args, runs[0].stand_in)
    if boards is not None:
        check_writable(boards, f"{runs[0].loaded.name}.jsonl.lock")  # now, and not after training
    records, trackers, view = [], [tracker(name) for name in args.log], None
    for prepared in resumed_or_begun(runs):
        try:
            if args.train_only:
                train_only(prepared, args.quiet, trackers)
                continue
            record = run(prepared, args.quiet, trackers)
        except KeyboardInterrupt:
            print(f"\nstopped; go on with: {resuming(_command(sys.argv[1:], launch))}", file=sys.stderr)
            return 130
        if boards is not None:
            record, view = publish_run(record, prepared, boards, check=not args.no_check)
        records.append(record)
    if args.train_only:
        _show_trained(runs, args)
    else:
        _show(runs, records, view, boards, args)
    return 0


def _show_trained(runs: list[Prepared], args: argparse.Namespace) -> None:
    from harness.runs.status import CHECKPOINT, progress_of
    from harness.training.checkpoint import progress_in
    from harness.util.shown_text import in_json

    rows: list[dict[str, Any]] = []
    for each in runs:
        scored = progress_of(each.folder) == "done"
        if scored and not (each.folder / CHECKPOINT).is_file():
            progress = None
        else:
            progress = progress_in(each.folder / CHECKPOINT)
        numbers = {
            "validation": progress and progress.score,
            "episodes": progress and progress.episodes,
            "seconds": progress and round(progress.seconds, 1),
        }
        rows.append({"seed": each.request.seed, "folder": str(each.folder), **numbers, "scored": scored})
    if args.json:
        print(in_json(rows))
        return
    for row in rows:
        score = "not validated" if row["validation"] is None else f"validation score {row['validation']:.2f}"
        tested = "test episodes scored before" if row["scored"] else "no test episode scored"
        print(f"seed {row['seed']}: {score}, {tested}; {row['folder']}")


def _show(
    runs: list[Prepared], records: list[Record], view: View | None, boards: Path | None, args: argparse.Namespace
) -> None:
    """Prints what runs came to: `view` is the board in the folder `boards`, None if they have none."""
    from harness.boards.markdown import render_board
    from harness.boards.outcome import outcome_of
    from harness.cli.outcome import outcome_as_json, outcome_lines
    from harness.lint.label_only import label_only_metrics
    from harness.util.shown_text import in_json

    prepared, folders, outcome, path = runs[-1], [each.folder for each in runs], None, None
    if view is not None and boards is not None:
        outcome, path = outcome_of(records, view, boards), view.path
    table, episodes = prepared.dataset.table("test"), records[-1].test_episodes
    baselines = label_only_metrics(prepared.protocol, table, episodes)
    if args.json:
        print(in_json(outcome_as_json(prepared.protocol, records, outcome, folders, baselines)))
        return
    if view is not None and args.show_board:
        print(render_board(view))
    print(outcome_lines(prepared.protocol, records, outcome, path, folders, baselines))


def _command(words: list[str], launch: Launch | None) -> str:
    """The command line of these words, by one process or by several."""
    return f"{launch.program if launch else 'harness'} {shlex.join(words)}".strip()
