"""`harness.sweep`: the runs of a grid that are missing, in one call."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.checked import checked
from harness.api.named import path_of
from harness.boards.places import BOARDS, LOCAL_BOARDS
from harness.evaluation.summary import of_metrics
from harness.records.record import Record
from harness.runs.folder import read_record
from harness.sweep.engines import Choice
from harness.sweep.places import Places
from harness.sweep.plan import Planned
from harness.sweep.searching import SearchState, best_runs
from harness.sweep.whole import plan_sweep, run_sweep
from harness.util.errors import UserError
from harness.util.launch import refuse_sweep

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep: `state` is 'done', 'failed' (`reason` says why), 'interrupted', 'unfinished' or 'waiting'.

    `command` does the same run by itself; `record` is there once it is done.
    """

    title: str
    command: str
    folder: Path
    state: str
    record: Record | None = None
    reason: str = ""


@dataclass(frozen=True, repr=False)
class SweepResult:
    """The runs of a sweep, in order; iterating gives each."""

    runs: tuple[SweepRun, ...]
    searches: tuple[SearchState, ...] = ()
    """How far each search is; its trials are not among the runs."""

    def __iter__(self) -> Iterator[SweepRun]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        states = [each.state for each in self.runs]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        searched = sum(map(_found, self.searches))
        more = f", {searched} of {len(self.searches)} searches done" if self.searches else ""
        return f"{len(self)} runs: {counts or 'none'}{more}; .to_pandas() is a table of them"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>" + self.to_pandas().to_html(index=False, border=0, na_rep="")

    @property
    def done(self) -> bool:
        """Whether every run is, and every search, with a best trial."""
        return all(each.state == "done" for each in self.runs) and all(map(_found, self.searches))

    def to_pandas(self) -> pd.DataFrame:
        """A row a run: its title, state, reason and folder, and of a finished one every metric with its interval
        ('accuracy', 'accuracy ±', per cent) and the seconds that it took."""
        import pandas as pd

        rows = []
        for each in self.runs:
            row: dict[str, object] = {
                "run": each.title,
                "state": each.state,
                "reason": each.reason,
                "folder": str(each.folder),
            }
            if each.record is not None:
                for name, metric in of_metrics(each.record.metrics).items():
                    row |= {name: metric.mean, f"{name} ±": metric.interval}
                row["seconds"] = each.record.train_seconds + each.record.score_seconds
            rows.append(row)
        return pd.DataFrame(rows)


@checked
def sweep(
    file: str | Path,
    *,
    engine: str = "local",
    jobs: int | None = None,
    address: str | None = None,
    slurm: Mapping[str, str] | None = None,
    seconds: float | None = None,
    dry_run: bool = False,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
    out: str | Path | None = None,
    boards: str | Path | None = None,
) -> SweepResult:
    """Runs what is missing of a sweep, each run as `harness run` does it, row and all: `harness sweep`.

    Args:
        file: a sweep file, or the name of a shipped sweep.
        engine: where runs are done: local, ray or slurm.
        jobs: CPU cores to use at once, by default those at hand.
        address: the Ray cluster, 'auto' on one of its nodes; by default one is started here for the sweep.
        slurm: options of Slurm's sbatch, such as `{"partition": "gpu", "time": "4:00:00"}`.
        seconds: stop after so long; by default what the file says.
        dry_run: run nothing; say how far each run is.
        data_root: where the real data sets are, by default the environment variable HARNESS_DATA.
        cache: where decoded data are kept, by default HARNESS_CACHE or the user's cache folder.
        out: where run folders go, by default `runs`.
        boards: the folder of boards, by default `leaderboards`, for stand-in data `runs/boards`.

    Returns:
        How each run ended. One that fails does not stop the others, and after an interruption the same call goes on.

    Raises:
        UserError: for whatever is not there, does not fit or cannot be, before anything is run.
    """
    refuse_sweep()
    choice = Choice(engine, jobs, address, [f"{name}={value}" for name, value in (slurm or {}).items()])
    choice.check()
    for name, value in (("jobs", jobs), ("seconds", seconds)):
        if value is not None and not value > 0:
            raise UserError(f"{name} is {value}; it must be more than 0")
    folders = map(path_of, (out, data_root, cache, boards))
    places = Places((BOARDS, LOCAL_BOARDS), *folders)
    planned = plan_sweep(Path(file).expanduser() if isinstance(file, Path) else file, places)
    if dry_run:
        best = [run for each in planned.searches() for run in best_runs(each, places)]
        return SweepResult(tuple(_run(each, each.state) for each in (*planned.runs, *best)), tuple(planned.searches()))
    outcome = run_sweep(planned, choice, seconds or planned.seconds, LOG.info)
    return SweepResult(
        tuple(_run(each.planned, each.outcome, each.reason) for each in outcome.results), outcome.searches
    )


def _found(search: SearchState) -> bool:
    return search.done and search.best is not None


def _run(planned: Planned, state: str, reason: str = "") -> SweepRun:
    record = planned.record
    if state == "done" and record is None:
        record = read_record(planned.folder)
    return SweepRun(planned.run.title, planned.run.command, planned.folder, state, record, reason)
