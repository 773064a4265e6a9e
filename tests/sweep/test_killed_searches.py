"""Searches that are killed while a round is drawn, or while its scores are noted: they draw what they would have drawn.

Nothing is trained: a run is its values, and its score a function of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from harness.sweep import searching
from harness.sweep.definition import Ranges, Search
from harness.sweep.expand import SweepRun
from harness.sweep.places import Places
from harness.sweep.plan import Planned
from harness.sweep.ranges import FloatRange, IntRange
from harness.sweep.search import PlannedStudy, Study
from harness.sweep.searching import Searches
from harness.sweep.trials import DATABASE, read_trials
from tests.helpers.sweeps import plain_run

PLACES = Places((Path("leaderboards"), Path("runs/boards")))
RANGES = {
    "overrides.lr": FloatRange(type="float", low=0.0001, high=0.1, log=True),
    "options.width": IntRange(type="int", low=1, high=64),
}
LONG = 18
"""Trials that are drawn in rounds of five: ten at random, then five and three that know scores."""
Drawn = list[tuple[dict[str, Any], float | None]]
"""The values and the score of each trial."""


class Killed(BaseException):
    """In place of a kill: nothing in the harness catches it."""


@dataclass
class Storage:
    """The database of searches: how often something was written, and the write before which the process is killed."""

    written: int = 0
    kill_at: int | None = None

    def execute(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE")):
            if self.written == self.kill_at:
                raise Killed
            self.written += 1


@pytest.fixture
def storage() -> Iterator[Storage]:
    """Every moment between two writes to the database can be one of a kill."""
    counting = Storage()
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", counting.execute)
    yield counting
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", counting.execute)


@pytest.fixture(autouse=True)
def _unsafe() -> Iterator[None]:
    """Nothing waits until the database is on the disk: no machine loses its power here, and that takes longest."""

    def connected(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", connected)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", connected)


@pytest.fixture(autouse=True)
def trained(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """The folders of the runs that have ended."""
    ended: set[Path] = set()

    def plan(runs: list[SweepRun], places: Places) -> list[Planned]:
        return [Ending(run, places.runs / name_of(run), "p", "m", None, ended) for run in runs]

    monkeypatch.setattr(searching, "plan_runs", plan)
    monkeypatch.setattr(searching, "_score", score_in)
    return ended


@dataclass(frozen=True)
class Ending(Planned):
    """A run that is done once it has been trained."""

    ended: set[Path]

    @property
    def state(self) -> Any:
        return "done" if self.folder in self.ended else "waiting"


def name_of(run: SweepRun) -> str:
    return f"{run.overrides['lr']!r} {run.options['width']}"


def score_in(folder: Path) -> float:
    lr, width = folder.name.split()
    return 90 - 4 * (math.log10(float(lr)) + 2.5) ** 2 - (int(width) - 40) ** 2 / 100


def planned(trials: int, at_once: int = 5) -> PlannedStudy:
    ranges = Ranges(overrides={"lr": RANGES["overrides.lr"]}, options={"width": RANGES["options.width"]})
    search = Search(protocols=["p"], methods=["m"], ranges=ranges, trials=trials, at_once=at_once)
    base = plain_run()
    return PlannedStudy(Study(search, base, (0,)), "study")


def driven(folder: Path, trials: int, ended: set[Path]) -> None:
    """Trains what comes, until all trials have ended."""
    searches = Searches([planned(trials)], PLACES, folder)
    waiting = [run for run in searches.first() if run.run.train_only]
    while waiting:
        run = waiting.pop()
        ended.add(run.folder)
        waiting += [more for more in searches.after(run, "done") if more.run.train_only]


def drawn(folder: Path, trials: int = LONG) -> Drawn:
    return [(each.values, each.score) for each in read_trials(planned(trials), folder)]


def killed_at_moments(
    place: Path, storage: Storage, first: int, ended: set[Path], step: int = 1, then: int | None = None
) -> Iterator[Drawn]:
    """The trials of searches of `first` trials, of which ten had ended, that are killed and begun again: each is killed
    before a later write than the one before, until one is done before that. Begun again, it is of `then` trials."""
    driven(place / "ten", 10, ended)
    for count in itertools.count(0, step):
        folder = place / str(count)
        folder.mkdir()
        (folder / DATABASE).write_bytes((place / "ten" / DATABASE).read_bytes())
        ended.clear()
        storage.written, storage.kill_at = 0, count
        try:
            driven(folder, first, ended)
        except Killed:
            storage.kill_at = None
            driven(folder, then or first, ended)
            yield drawn(folder)
        else:
            return


@pytest.mark.slow
def test_a_kill_at_any_moment_changes_no_trial(tmp_path: Path, storage: Storage, trained: set[Path]) -> None:
    driven(tmp_path / "whole", LONG, trained)
    whole = drawn(tmp_path / "whole")
    assert len(whole) == LONG
    same = [values == whole for values in killed_at_moments(tmp_path, storage, LONG, trained, step=5)]
    assert all(same)
    assert len(same) > LONG - 10, "less than one for each trial"


@pytest.mark.slow
def test_nor_where_more_trials_are_asked_for_then(tmp_path: Path, storage: Storage, trained: set[Path]) -> None:
    """The last round of the first search is of two: a round is as large as it was to be when it was begun."""
    driven(tmp_path / "whole", 12, trained)
    driven(tmp_path / "whole", 13, trained)
    whole = drawn(tmp_path / "whole")
    same = [values == whole for values in killed_at_moments(tmp_path, storage, 12, trained, then=13)]
    begun = same.index(True)
    assert begun <= 3, "that many writes come before a round is noted"
    assert all(same[begun:])
    assert len(same) > 10


def killed_after(folder: Path, trials: int, asks: int, ended: set[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Drives a search that is killed once so many trials have been drawn."""
    with monkeypatch.context() as patch:
        ask, left = optuna.Study.ask, asks

        def asked(*given: Any, **named: Any) -> Any:
            nonlocal left
            if not left:
                raise Killed
            left -= 1
            return ask(*given, **named)

        patch.setattr(optuna.Study, "ask", asked)
        with pytest.raises(Killed):
            driven(folder, trials, ended)


def test_a_round_that_was_half_drawn_is_drawn_to_its_end_first(
    tmp_path: Path, trained: set[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    driven(tmp_path / "whole", 15, trained)
    whole = [values for values, _ in drawn(tmp_path / "whole")]
    trained.clear()
    killed_after(tmp_path / "parts", 15, 12, trained, monkeypatch)
    searches = Searches([planned(15)], PLACES, tmp_path / "parts")
    assert len(searches.first()) == 5
    assert [values for values, _ in drawn(tmp_path / "parts")] == whole


def test_fewer_trials_end_a_round_and_more_begin_another(
    tmp_path: Path, trained: set[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(tmp_path, 15, 12, trained, monkeypatch)
    driven(tmp_path, 13, trained)
    assert len(drawn(tmp_path)) == 13
    searches = Searches([planned(LONG)], PLACES, tmp_path)
    assert len(searches.first()) == 5  # and not the two that the round before lacks
    assert len(drawn(tmp_path)) == LONG
