"""`harness sweep FILE`: the runs of a grid, those that are finished skipped and those that are not resumed."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import BOARDS, LOCAL_BOARDS, add_boards, add_json, add_places, thread_number
from harness.cli.notices import notice
from harness.cli.search_text import search_as_json, search_line
from harness.cli.text_table import terminal_width, wrap
from harness.sweep.engines import ENGINES, Choice
from harness.util.errors import UserError
from harness.util.json_files import read_json
from harness.util.launch import refuse_sweep
from harness.util.quantities import about, clock, counted, duration
from harness.util.shown_text import in_json, in_line, shown

if TYPE_CHECKING:
    from harness.sweep.definition import Sweep
    from harness.sweep.plan import Planned
    from harness.sweep.searching import SearchState
    from harness.sweep.whole import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="a sweep file, or the name of a shipped sweep")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="where runs are done (default: local)")
    parser.add_argument(
        "--jobs", type=thread_number, metavar="N", help="CPU cores to use at once (default: those at hand)"
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the Ray cluster, 'auto' on one of its nodes (default: one that is started here for the sweep)",
    )
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of sbatch: partition=gpu, time=4:00:00, gres=gpu:a100:1; may be repeated",
    )
    parser.add_argument("--time", metavar="2h", help="stop after so long; unfinished runs go on next time")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and how far each is; run nothing")
    parser.add_argument("--status", action="store_true", help="print how far a sweep is that runs or has ended")
    add_json(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where run folders go (default: runs)")
    add_places(parser)
    add_boards(parser)


def execute(args: argparse.Namespace) -> int:
    refuse_sweep()
    choice = Choice(args.engine, args.jobs, args.address, args.slurm)
    choice.check()

    from harness.sweep.places import Places
    from harness.sweep.plan import expected_seconds
    from harness.sweep.searching import best_runs
    from harness.sweep.whole import plan_sweep, run_sweep

    seconds = None if args.time is None else duration(args.time, "--time")
    places = Places((BOARDS, LOCAL_BOARDS), args.out, args.data_root, args.cache, args.boards)
    planned = plan_sweep(args.file, places)
    if args.dry_run or args.status:
        found = planned.searches()
        runs = [*planned.runs, *(run for each in found for run in best_runs(each, places))]
        _show_plan(runs, _states(runs, planned.folder), expected_seconds(runs), found, args.json)
        return 0
    outcome = run_sweep(planned, choice, seconds or planned.seconds, notice)
    _show_results(planned.sweep, outcome, args)
    if outcome.unfinished:
        # What was typed goes on with the sweep as it is.
        notice(f"not all runs are finished; go on with: {shlex.join(['harness', *sys.argv[1:]])}")
        return 1 if outcome.failed else 130
    return 1 if outcome.failed else 0


def _states(planned: Sequence[Planned], folder: Path) -> list[str]:
    """done, running, unfinished, failed or waiting, for each run."""
    from filelock import FileLock, Timeout

    from harness.sweep.drive import STATUS

    noted: dict[str, str] = {}
    if (folder / STATUS).is_file():
        try:
            rows = read_json(folder / STATUS)
            noted = {str(row["folder"]): str(row["state"]) for row in rows}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{folder / STATUS} is damaged; delete it, and the runs are looked at themselves") from None
        try:
            with FileLock(folder / ".lock", timeout=0):
                noted = {run: state for run, state in noted.items() if state == "failed"}
        except Timeout:
            pass
    return [
        each.state
        if each.state == "done" or noted.get(str(each.folder)) not in {"running", "failed"}
        else noted[str(each.folder)]
        for each in planned
    ]


def _show_plan(
    planned: Sequence[Planned],
    states: Sequence[str],
    expected: Sequence[float | None],
    searches: Sequence[SearchState],
    as_json: bool,
) -> None:
    if as_json:
        rows = [
            {
                "run": each.run.title,
                "command": each.run.command,
                "folder": str(each.folder),
                "state": state,
                "seconds": each.seconds,
                "expected_seconds": seconds,
            }
            for each, state, seconds in zip(planned, states, expected, strict=True)
        ]
        print(in_json([*rows, *map(search_as_json, searches)]))
        return
    for each, state, seconds in zip(planned, states, expected, strict=True):
        time = clock(each.seconds) if state == "done" and each.seconds is not None else _expected(seconds)
        print(_wrapped(f"{state:<10}  {time:>10}  {in_line(each.run.title)}", 24))
    for search in searches:
        print(_wrapped(in_line(search_line(search))))
    left = [seconds for state, seconds in zip(states, expected, strict=True) if state != "done"]
    known = [seconds for seconds in left if seconds is not None]
    counts = {state: list(states).count(state) for state in ("done", "running", "unfinished", "failed", "waiting")}
    if planned:
        print("\n" + ", ".join(f"{count} {state}" for state, count in counts.items() if count))
    if left:
        without = len(left) - len(known)
        parts = [f"{about(sum(known))} for {_runs(len(known))}, from finished runs alike"] if known else []
        parts += [f"not known for {_runs(without)} without a finished run alike"] if without else []
        print(_wrapped("expected: " + "; ".join(parts)))


def _show_results(sweep: Sweep, outcome: Outcome, args: argparse.Namespace) -> None:
    from harness.evaluation.summary import of_metrics
    from harness.protocol.load import load_protocol
    from harness.runs.folder import read_record
    from harness.tables.cells import fill
    from harness.tables.definition import find_table
    from harness.tables.render import as_text

    rows: list[dict[str, Any]] = []
    for each in outcome.results:
        row: dict[str, Any] = {"run": each.planned.run.title, "outcome": each.outcome}
        if each.outcome == "done":
            record = each.planned.record or read_record(each.planned.folder)
            metrics = of_metrics(record.metrics)
            row |= {"metrics": metrics, "seconds": record.train_seconds + record.score_seconds}
        else:
            row |= {"log": str(each.log), "reason": each.reason}
        rows.append(row)
    if args.json:
        for row in rows:
            if "metrics" in row:
                row["metrics"] = {name: each.as_json() for name, each in row["metrics"].items()}
        print(in_json([*rows, *map(search_as_json, outcome.searches)]))
        return
    for search in outcome.searches:
        print(_wrapped(in_line(search_line(search))))
    for each, row in zip(outcome.results, rows, strict=True):
        if row["outcome"] == "done":
            name = load_protocol(each.planned.run.protocol).protocol.ranking
            said = f"{name} {row['metrics'][name].text(2)} %, {clock(row['seconds'])}"
        else:
            said = f"{row['outcome']}: {row['reason']} ({row['log']})" if row["reason"] else row["outcome"]
        print(_wrapped(f"{in_line(row['run'])}: {in_line(said)}"))
    if sweep.table:
        filled = fill(find_table(sweep.table), args.boards or BOARDS)
        print("\n" + shown(as_text(filled, terminal_width())), end="")


def _wrapped(line: str, indent: int = 2) -> str:
    return wrap(line, terminal_width(), " " * indent)


def _runs(count: int) -> str:
    return counted(count, "run")


def _expected(seconds: float | None) -> str:
    return "?" if seconds is None else about(seconds)
