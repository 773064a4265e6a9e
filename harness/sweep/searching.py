"""Searches as part of a sweep: which trials come next once one has ended, and the runs of the best at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.records.marks import SEARCHED
from harness.runs.status import CHECKPOINT
from harness.sweep.places import Places
from harness.sweep.plan import Planned, plan_runs
from harness.sweep.search import PlannedStudy
from harness.sweep.trials import Trial, Trials, best_of, open_trials, read_trials, table_path, write_table
from harness.training.checkpoint import progress_in
from harness.util.errors import UserError


@dataclass(frozen=True)
class SearchState:
    """How far a search is."""

    planned: PlannedStudy
    trials: list[Trial]
    table: Path

    @property
    def ended(self) -> int:
        """Trials that have ended, well or not."""
        return sum(each.state != "drawn" for each in self.trials)

    @property
    def done(self) -> bool:
        """Whether all trials have ended."""
        return self.ended >= self.planned.study.search.trials

    @property
    def best(self) -> Trial | None:
        return best_of(self.trials)


def search_states(studies: Sequence[PlannedStudy], folder: Path) -> list[SearchState]:
    """How far each search in the folder of a sweep is."""
    return [SearchState(each, read_trials(each, folder), table_path(each, folder)) for each in studies]


def best_runs(state: SearchState, places: Places) -> list[Planned]:
    """The runs of the best trial under every seed; none before the search has ended, or if no trial ended well."""
    if not state.done or state.best is None:
        return []
    return plan_runs(state.planned.study.best_runs(state.best.values, state.ended), places)


@dataclass
class _Round:
    """Trials that were drawn together, by the folder of their run, the score of those that have ended, and those whose
    values cannot be together."""

    trials: Trials
    runs: dict[Path, list[Trial]] = field(default_factory=dict)
    scores: dict[Path, float | None] = field(default_factory=dict)
    impossible: list[Trial] = field(default_factory=list)


@dataclass
class Searches:
    """The searches of a sweep while it is driven."""

    studies: Sequence[PlannedStudy]
    places: Places
    folder: Path
    tell: Callable[[str], None] = lambda _: None
    _rounds: list[_Round] = field(default_factory=list)

    def first(self) -> list[Planned]:
        """The runs that come first: trials that were not finished, new ones, or those of a best trial."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return [run for each in self.studies for run in self._next(open_trials(each, self.folder))]

    def after(self, planned: Planned, outcome: str) -> list[Planned]:
        """The runs that come after one that has ended ('done' or 'failed'): none before its round is over."""
        if not planned.run.train_only:
            return []
        more: list[Planned] = []
        for each in [one for one in self._rounds if planned.folder in one.runs]:
            each.scores[planned.folder] = _score(planned.folder) if outcome == "done" else None
            if each.scores.keys() == each.runs.keys():
                self._rounds.remove(each)
                self._close(each)
                more += self._next(each.trials)
        return more

    def _next(self, trials: Trials) -> list[Planned]:
        study = trials.planned.study
        while True:
            trials.complete_round()
            state = SearchState(trials.planned, trials.all(), table_path(trials.planned, self.folder))
            write_table(trials.planned, self.folder, state.trials)
            drawn = [each for each in state.trials if each.state == "drawn"]
            left = study.search.trials - state.ended
            if not drawn and left <= 0:
                return self._best(state)
            drawn = drawn or trials.draw(min(study.search.at_once, left))
            present, runs = self._planned(trials, drawn)
            if runs:
                self._rounds.append(present)
                return runs
            self._close(present)

    def _planned(self, trials: Trials, drawn: list[Trial]) -> tuple[_Round, list[Planned]]:
        """A round of trials, and those of its runs that are not finished."""
        present, runs, study = _Round(trials), {}, trials.planned.study
        for trial in drawn:
            try:
                (run,) = plan_runs([study.trial(trial.values)], self.places)
            except UserError as error:
                self.tell(f"failed: {error}")
                present.impossible.append(trial)
                continue
            present.runs.setdefault(run.folder, []).append(trial)
            if run.state == "done":
                present.scores[run.folder] = _score(run.folder)
            else:
                runs[run.folder] = run
        return present, list(runs.values())

    def _close(self, present: _Round) -> None:
        scores = [(trial, present.scores[folder]) for folder, each in present.runs.items() for trial in each]
        scores += [(trial, None) for trial in present.impossible]
        for trial, score in sorted(scores, key=lambda each: each[0].number):
            present.trials.tell(trial, score)

    def _best(self, state: SearchState) -> list[Planned]:
        title, best = state.planned.study.title, state.best
        if best is None:
            self.tell(f"search of {title}: all {state.ended} trials failed")
            return []
        self.tell(f"search of {title}: the best of {state.ended} trials has validation score {best.score:.2f}")
        runs = best_runs(state, self.places)
        for each in runs:
            if each.record is not None and f"{SEARCHED}: {state.ended} trials" not in each.record.marks:
                self.tell(f"{each.run.title}: this run was finished before, and its row has no such mark")
        return runs


def _score(folder: Path) -> float | None:
    """The best validation score of a training that has ended; None if it has left none."""
    try:
        return progress_in(folder / CHECKPOINT).score
    except UserError:
        return None
