"""Which runs of a sweep are finished, unfinished or not begun, and how long runs like them took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.boards.store import board_path, read_board
from harness.protocol.load import for_data, load_protocol
from harness.records.option_defaults import all_options
from harness.records.record import Record
from harness.runs.earlier import with_new_options
from harness.runs.resolve import Prepared, Request, prepare
from harness.runs.status import CUT, Progress, progress_of
from harness.sweep.expand import SweepRun
from harness.sweep.places import Places
from harness.util.errors import UserError
from harness.util.progress import tracked


@dataclass(frozen=True)
class Planned:
    """A run with its folder and how far it got: `record` is the row of a finished one on its board."""

    run: SweepRun
    folder: Path
    protocol: str
    method: str
    record: Record | None

    @property
    def state(self) -> Progress:
        if self.record is not None:
            return "done"
        if self.run.train_only:
            return progress_of(self.folder, train_only=True)
        return "waiting" if progress_of(self.folder) == "waiting" else "unfinished"

    @property
    def seconds(self) -> float | None:
        """Wall time of training and scoring, once it is done."""
        return None if self.record is None else self.record.train_seconds + self.record.score_seconds


def plan_runs(runs: Sequence[SweepRun], places: Places) -> list[Planned]:
    """Every run with its folder. Raises UserError for data that are not there or do not fit, naming the run."""
    # One data set at a time is held in memory, so those that share one are resolved one after another.
    order = sorted(range(len(runs)), key=lambda number: (runs[number].data, runs[number].protocol))
    planned: dict[int, Planned] = {}
    dataset, held = None, None

    @cache
    def rows_of(path: Path) -> list[Record]:
        return [record for _, record in read_board(path).records]

    for number in tracked(order, "resolving runs", "runs"):
        run = runs[number]
        try:
            loaded = load_protocol(run.protocol)
            protocol = for_data(loaded, run.data)
            wanted = protocol.dataset, loaded.base, protocol.episode_file
            prepared = prepare(request_of(run, places), loaded, dataset=dataset if wanted == held else None)
        except UserError as error:
            raise UserError(f"{run.title}: {error}") from None
        dataset, held = prepared.dataset, wanted
        # Of a trial nothing is read that was made with test episodes.
        record = None if run.train_only else _finished(prepared, places, rows_of)
        planned[number] = Planned(run, prepared.folder, loaded.name, prepared.method.name, record)
    return [planned[number] for number in range(len(runs))]


def _finished(prepared: Prepared, places: Places, rows_of: Callable[[Path], list[Record]]) -> Record | None:
    """The row of the same setting and seed on the run's board.

    A run that ended without one (killed just then, or run with `--no-board`) is not finished: what is left of it is to
    put its row on the board.
    """
    path = board_path(places.boards_of(prepared.stand_in), prepared.loaded.name, prepared.stand_in)
    return next((row for row in reversed(rows_of(path)) if _is_of(row, prepared)), None)


def _is_of(row: Record, prepared: Prepared) -> bool:
    """Whether a row is what a run would come to; rows of methods that are not trained name no recipe, no budget and
    nothing that cut it."""
    identity = prepared.identity
    options = with_new_options(all_options(row.target, row.options), prepared.method.cls)
    theirs = row.digest, row.data.fingerprint, row.target, options, row.seed, row.test_episodes
    ours = tuple(identity[name] for name in ("digest", "fingerprint", "target", "options", "seed", "test_episodes"))
    training = row.recipe_hash, row.budget, row.budget_cut
    asked = identity["recipe_hash"], identity["budget"], identity[CUT]
    fresh = row.init is None and row.method_version == prepared.method.cls.version
    return theirs == ours and fresh and training in (("", "", ""), asked)


def expected_seconds(planned: Sequence[Planned]) -> list[float | None]:
    """What each run should take: the mean of finished runs alike but for seed and options; None where there is none."""
    taken: dict[tuple[str, str, str], list[float]] = {}
    for each in planned:
        if each.seconds is not None:
            taken.setdefault((each.protocol, each.method, each.run.budget), []).append(each.seconds)
    found = [taken.get((each.protocol, each.method, each.run.budget)) for each in planned]
    return [sum(times) / len(times) if times else None for times in found]


def request_of(run: SweepRun, places: Places) -> Request:
    """What a run of a sweep asks for."""
    return Request(
        protocol=run.protocol,
        method=run.method,
        budget=run.budget,
        seed=run.seed,
        options=dict(run.options),
        recipe=run.recipe,
        changes=dict(run.overrides),
        episodes=run.episodes,
        seconds=run.seconds,
        test_episodes=run.test_episodes,
        searched=run.searched,
        data=run.data,
        data_root=places.data_root,
        cache=places.cache,
        out=places.runs,
        device="cpu",
        only_named=True,
    )
