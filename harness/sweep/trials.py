"""The trials of a study, in Optuna's SQLite storage: drawn, told their scores, and written as a table.

A trial's values are a function of the sampler's seed, the trial's number and the scores of the rounds before its own;
so a search that was interrupted draws what it would have drawn otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.sweep.ranges import distributions, drawn
from harness.sweep.search import PlannedStudy
from harness.util.atomic_files import replacing
from harness.util.errors import UserError
from harness.util.shown_text import in_markdown

if TYPE_CHECKING:
    import optuna

DATABASE = "search.db"
"""The storage of all studies of a sweep, in its folder."""

_ROUND = "round"
"""What a stored study notes of its newest round: how many trials came before it, and how many there are with it."""


@dataclass(frozen=True)
class Trial:
    """One trial; `score` is its best validation score, in per cent."""

    number: int
    state: Literal["done", "failed", "drawn"]
    score: float | None
    values: dict[str, Any]


@dataclass(frozen=True)
class Trials:
    """The stored trials of a study."""

    planned: PlannedStudy
    stored: optuna.Study

    def all(self) -> list[Trial]:
        """Every trial so far, by number."""
        return _all(self.planned, self.stored)

    def draw(self, count: int) -> list[Trial]:
        """Draws a round of so many trials, from the scores of those that ended."""
        before = len(self.all())
        # Noted first: trials that are there do not show how many more a kill kept from being drawn. The last round may
        # be shorter, and where `trials` was raised after it, rounds do not begin at multiples of `at_once`.
        self.stored.set_user_attr(_ROUND, [before, before + count])
        self._draw_up_to(before + count)
        return self.all()[before:]

    def complete_round(self) -> None:
        """Draws what a kill kept from being drawn of the newest round, from the scores that its other trials saw."""
        before, end = self.stored.user_attrs.get(_ROUND, (0, 0))
        # One that saw a score of its own round would be another trial. A round that is not whole has scores only where
        # `trials` was lowered, so that it ended without its last ones.
        if all(each.state == "drawn" for each in self.all()[before:]):
            self._draw_up_to(min(end, self.planned.study.search.trials))

    def _draw_up_to(self, count: int) -> None:
        """Draws until there are so many trials."""
        from optuna.trial import TrialState

        search = self.planned.study.search
        ranges = distributions(self.planned.study.ranges)
        # What a kill left half drawn is no trial: it failed without values.
        for each in self.stored.get_trials(states=(TrialState.RUNNING,)):
            if each.params.keys() < ranges.keys():
                self.stored.tell(each.number, state=TrialState.FAIL)
        for number in range(len(self.all()), count):
            self.stored.sampler = _sampler(search.sampler, search.sampler_seed, number)
            self.stored.ask(ranges)

    def tell(self, trial: Trial, score: float | None) -> None:
        """Notes the score of a trial; None: it failed."""
        from optuna.trial import TrialState

        if score is None:
            self.stored.tell(trial.number, state=TrialState.FAIL)
        else:
            self.stored.tell(trial.number, score)


def open_trials(planned: PlannedStudy, folder: Path) -> Trials:
    """The trials of a study in the folder of its sweep, none at first. UserError where Optuna is not installed."""
    optuna = _optuna()
    stored = optuna.create_study(
        storage=_url(folder), study_name=planned.name, direction="maximize", load_if_exists=True
    )
    return Trials(planned, stored)


def read_trials(planned: PlannedStudy, folder: Path) -> list[Trial]:
    """The trials of a study so far; nothing is written."""
    optuna = _optuna()
    if not (folder / DATABASE).is_file():
        return []
    try:
        stored = optuna.load_study(storage=_url(folder), study_name=planned.name)
    except KeyError:
        return []
    return _all(planned, stored)


def best_of(trials: list[Trial]) -> Trial | None:
    """The trial with the best score, the earliest of several; None before any has ended well."""
    scored = [(each.score, -each.number, each) for each in trials if each.score is not None]
    return max(scored)[2] if scored else None


def table_path(planned: PlannedStudy, folder: Path) -> Path:
    """Where the table of a study's trials is."""
    return folder / f"trials-{planned.name}.md"


def write_table(planned: PlannedStudy, folder: Path, trials: list[Trial]) -> None:
    """Writes the trials as a Markdown table, in the order in which they were drawn."""
    import pandas

    study, best = planned.study, best_of(trials)
    rows = [
        {
            "trial": str(each.number) + (" (best)" if best is not None and each.number == best.number else ""),
            "state": each.state,
            "validation score": "" if each.score is None else f"{each.score:.2f}",
            **{in_markdown(name): in_markdown(_text(value)) for name, value in each.values.items()},
        }
        for each in trials
    ]
    title = f"# Search of {in_markdown(study.title)}"
    words = (
        f"{sum(each.state != 'drawn' for each in trials)} of {study.search.trials} trials, sampler "
        f"{study.search.sampler} with seed {study.search.sampler_seed}, {study.search.at_once} at once. Scores are per "
        f"cent on validation episodes, the best of each training under seed {study.seeds[0]}; no trial scored a test "
        "episode."
    )
    frame: Any = pandas.DataFrame(rows)
    text = "\n\n".join([title, words, *([frame.to_markdown(index=False, disable_numparse=True)] if rows else [])])
    with replacing(table_path(planned, folder)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _all(planned: PlannedStudy, stored: optuna.Study) -> list[Trial]:
    from optuna.trial import TrialState

    states: dict[Any, Literal["done", "failed"]] = {TrialState.COMPLETE: "done", TrialState.FAIL: "failed"}
    ranges = planned.study.ranges
    return [
        Trial(each.number, states.get(each.state, "drawn"), each.value, drawn(ranges, each.params))
        for each in stored.get_trials(deepcopy=False)
        if each.params.keys() == ranges.keys()
    ]


def _sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial: with a seed of its own, so that nothing depends on where a search was interrupted."""
    from optuna.samplers import RandomSampler, TPESampler

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "random":
        return RandomSampler(own)
    return TPESampler(seed=own, multivariate=True, constant_liar=True, n_startup_trials=10)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError("a search needs Optuna: pip install 'episode-harness[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _url(folder: Path) -> str:
    return f"sqlite:///{(folder / DATABASE).absolute()}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
