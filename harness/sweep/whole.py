"""A sweep as a whole: read from its file, planned where it leaves what it makes, and run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.runs.status import ENTER_WITHIN, TRY_EVERY
from harness.sweep.definition import Sweep, read_sweep
from harness.sweep.drive import Result, drive
from harness.sweep.engines import Choice
from harness.sweep.expand import expand
from harness.sweep.places import Places
from harness.sweep.plan import Planned, plan_runs
from harness.sweep.search import PlannedStudy, expand_searches, plan_studies
from harness.sweep.searching import Searches, SearchState, search_states
from harness.util.errors import UserError
from harness.util.quantities import duration


@dataclass(frozen=True)
class PlannedSweep:
    """A sweep with its runs and searches, and how far each is."""

    name: str
    sweep: Sweep
    places: Places
    runs: tuple[Planned, ...]
    studies: tuple[PlannedStudy, ...]

    @property
    def folder(self) -> Path:
        """Where logs, how far the sweep got and the trials of its searches are."""
        return self.places.runs / "sweeps" / self.name

    @property
    def seconds(self) -> float | None:
        """How long the file lets it run."""
        return None if self.sweep.time is None else duration(self.sweep.time, "time")

    def searches(self) -> list[SearchState]:
        """How far each search is."""
        return search_states(self.studies, self.folder)


@dataclass(frozen=True)
class Outcome:
    """How the runs of a sweep ended, in order (without the trials of searches), and how far its searches got."""

    results: tuple[Result, ...]
    searches: tuple[SearchState, ...]
    unfinished: bool
    """Whether something is left that goes on when the sweep is run again."""

    @property
    def failed(self) -> bool:
        """Whether a run failed, or every trial of a search: one of several that failed is an answer like others."""
        lost = any(each.done and each.best is None for each in self.searches)
        return lost or any(each.outcome == "failed" for each in self.results)


def plan_sweep(name_or_path: str | Path, places: Places) -> PlannedSweep:
    """A sweep by file or name, resolved against data and boards.

    Raises UserError, and YamlError with every problem at its line, for what is not there or does not fit.
    """
    name, sweep, document = read_sweep(name_or_path)
    runs, searches = expand(sweep, document), expand_searches(sweep, document)
    return PlannedSweep(name, sweep, places, tuple(plan_runs(runs, places)), tuple(plan_studies(searches, places)))


def run_sweep(
    planned: PlannedSweep, choice: Choice, seconds: float | None, tell: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Runs what is missing, for so many seconds at most; `tell` is given a line for each thing that happens.

    Raises UserError if another process runs the same sweep, or for an engine that is not to be had.
    """
    from filelock import FileLock, Timeout

    folder = planned.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=ENTER_WITHIN)
    try:
        lock.acquire(poll_interval=TRY_EVERY)
    except Timeout:
        where = f"the sweep in {folder} is under way in another process"
        raise UserError(f"{where}; `harness sweep --status` shows how far it is") from None
    missing = sum(each.state != "done" for each in planned.runs)
    count = len(planned.studies)
    searched = f", and {count} search{'es' * (count > 1)}" if count else ""
    tell(
        f"{len(planned.runs)} runs, {len(planned.runs) - missing} finished before, {missing} to do{searched}; "
        f"logs in {folder / 'logs'}"
    )
    searches = Searches(planned.studies, planned.places, folder, tell)
    try:
        runs = [*planned.runs, *searches.first()]
        with contextlib.closing(choice.start(folder)) as engine:
            results = drive(runs, engine, planned.places, folder, seconds, tell, then=searches.after)
    finally:
        lock.release()
    unfinished = any(each.outcome in ("interrupted", "waiting") for each in results)
    shown = tuple(each for each in results if not each.planned.run.train_only)
    return Outcome(shown, tuple(planned.searches()), unfinished)
