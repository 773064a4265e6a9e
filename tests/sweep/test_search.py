"""Searches of hyperparameters: what is refused, what is drawn, and how an interrupted search goes on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runs.folder import RECORD
from harness.runs.status import CHECKPOINT, NOTED
from harness.sweep import plan
from harness.sweep.definition import read_sweep
from harness.sweep.places import Places
from harness.sweep.plan import Planned
from harness.sweep.search import PlannedStudy, Study, expand_searches, plan_studies
from harness.sweep.searching import Searches, search_states
from harness.sweep.trials import Trial
from harness.training.state import Progress
from harness.util.errors import UserError
from harness.util.tensor_files import save_tensors
from harness.yaml_files.source_location import YamlError
from tests.helpers import runs as tiny_runs

SWEEP = """\
data: stand-in
budgets: [smoke]
seeds: [3, 4]
search:
  - protocols: [late.yaml]
    methods: [cl_lstm]
    recipe: cl_lstm.yaml
    trials: 4
    at_once: 2
    overrides: {batch: 4}
    ranges:
      overrides:
        lr: {type: float, low: 1e-4, high: 1e-1, log: true}
      options:
        lstm: {type: int, low: 4, high: 8, step: 3}
        resolution: {type: categorical, choices: [8, 16]}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new working directory with tiny protocols and recipes."""
    monkeypatch.chdir(tiny_runs.written(tmp_path))
    return tmp_path


def expanded() -> list[Study]:
    _, sweep, document = read_sweep("find.yaml")
    return expand_searches(sweep, document)


def planned_in(cache: Path, text: str = SWEEP, out: str = "runs") -> Searches:
    """The searches of a sweep file of this text, that leave their runs under `out`."""
    Path("find.yaml").write_text(text)
    places = Places((Path("leaderboards"), Path("runs/boards")), out=Path(out), cache=cache)
    return Searches(plan_studies(expanded(), places), places, Path(out) / "sweeps" / "find")


def score_of(run: Planned) -> float:
    """A validation score with its best value inside the ranges."""
    lr = math.log10(float(run.run.overrides["lr"]))
    return 90 - 4 * (lr + 2.5) ** 2 + float(run.run.options["lstm"]) / 4 + float(run.run.options["resolution"]) / 16


def train(run: Planned, score: float | None = None) -> None:
    """Leaves what `harness run --train-only` leaves of a training, as far as a search reads it."""
    best = score_of(run) if score is None else score
    assert run.run.train_only
    assert "--train-only" in run.run.words
    run.folder.mkdir(parents=True)
    save_tensors(run.folder / CHECKPOINT, {}, {"progress": dataclasses.asdict(Progress(best=best, done=True))})
    (run.folder / NOTED).write_text(json.dumps({"status": "trained"}))


def driven(searches: Searches, most: int = 1000) -> tuple[list[Planned], list[Planned]]:
    """Trains what comes, at most so many trials and the newest first; the trials, and the runs of the best."""
    waiting = searches.first()
    trained: list[Planned] = []
    best: list[Planned] = []
    while waiting and len(trained) < most:
        run = waiting.pop()
        if run.run.train_only:
            train(run)
            trained.append(run)
            waiting += searches.after(run, "done")
        else:
            best.append(run)
    return trained, best


def history(searches: Searches) -> list[Trial]:
    (state,) = search_states(searches.studies, searches.folder)
    return state.trials


@pytest.mark.slow
def test_the_best_of_all_trials_is_run_under_every_seed_and_says_so(here: Path, cache: Path) -> None:
    searches = planned_in(cache)
    trained, best = driven(searches)
    trials = history(searches)
    assert [each.number for each in trials] == list(range(4))
    assert {each.run.seed for each in trained} == {3}
    assert all(each.run.overrides["batch"] == 4 for each in trained)
    assert {each.values["options.lstm"] for each in trials} <= {4, 7}
    assert all(
        len(f"{each.values['overrides.lr']:.3e}") >= len(str(each.values["overrides.lr"])) - 4 for each in trials
    )
    top = max(trials, key=lambda each: each.score or 0)
    best.sort(key=lambda run: run.run.seed)
    assert [each.run.seed for each in best] == [3, 4]
    for run in best:
        assert run.run.overrides == {"batch": 4, "lr": top.values["overrides.lr"]}
        assert run.run.words[-2:] == ["--searched", "4"]
    assert best[0].state == "unfinished"  # the trial's own folder: nothing is trained twice
    assert best[1].state == "waiting"
    (table,) = searches.folder.glob("trials-*.md")
    lines = table.read_text().splitlines()
    assert sum("| done " in line for line in lines) == 4
    (marked,) = [line for line in lines if "(best)" in line]
    assert f"{top.score:.2f}" in marked


@pytest.mark.slow
def test_an_interrupted_search_draws_what_it_would_have_drawn(here: Path, cache: Path) -> None:
    text = SWEEP.replace("trials: 4", "trials: 13")  # the last three are not random
    whole = planned_in(cache, text, "whole")
    driven(whole)
    for most in (1, 11, 1000):  # in the middle of a round, and between two
        parts = planned_in(cache, text, "parts")
        driven(parts, most)  # what was trained before fails to be trained again
    assert history(parts) == history(whole)
    other = planned_in(cache, SWEEP.replace("at_once", "sampler_seed: 1\n    at_once"), "other")
    driven(other)
    assert history(other) != history(whole)[:4]


@pytest.mark.slow
def test_more_trials_go_on_from_those_that_there_are(here: Path, cache: Path) -> None:
    few, more = planned_in(cache, SWEEP.replace("trials: 4", "trials: 2")), planned_in(cache)
    assert few.studies[0].name == more.studies[0].name
    driven(few)
    before = history(few)
    trained, _ = driven(more)
    assert history(more)[:2] == before
    assert len(trained) == 2


FEW_VALUES = (
    SWEEP[: SWEEP.index("    ranges:")] + "    ranges: {options: {lstm: {type: int, low: 4, high: 7, step: 3}}}\n"
)


@pytest.mark.slow
def test_equal_trials_are_trained_once_and_failed_ones_count(here: Path, cache: Path) -> None:
    searches = planned_in(cache, FEW_VALUES.replace("trials: 4", "trials: 6"))
    waiting = searches.first()
    trained: list[Path] = []
    while waiting:
        run = waiting.pop()
        if not run.run.train_only:
            assert run.run.searched == 6
            continue
        failed = run.run.options["lstm"] == 7
        if not failed:
            train(run, 50.0)
            trained.append(run.folder)
        waiting += searches.after(run, "failed" if failed else "done")
    assert len(trained) == 1
    states = [(each.values["options.lstm"], each.state) for each in history(searches)]
    assert len(states) == 6
    assert set(states) == {(4, "done"), (7, "failed")}


@pytest.mark.slow
def test_values_that_cannot_be_together_are_a_failed_trial(here: Path, cache: Path) -> None:
    recipe = Path("cl_lstm.yaml")
    recipe.write_text(recipe.read_text().replace("      batch: 2\n", "      batch: 2\n      optimizer: {name: sgd}\n"))
    names = "optimizer.name: {type: categorical, choices: [adam, sgd]}"
    momenta = "optimizer.momentum: {type: float, low: 0.1, high: 0.9}"
    text = SWEEP[: SWEEP.index("    ranges:")] + f"    ranges: {{overrides: {{{names}, {momenta}}}}}\n"
    searches = planned_in(cache, text.replace("trials: 4", "trials: 6"))
    said: list[str] = []
    searches.tell = said.append
    waiting = searches.first()
    while waiting:
        run = waiting.pop()
        assert run.run.overrides["optimizer.name"] == "sgd"
        if run.run.train_only:
            train(run, 50.0)
            waiting += searches.after(run, "done")
    states = {(each.values["overrides.optimizer.name"], each.state) for each in history(searches)}
    assert states == {("adam", "failed"), ("sgd", "done")}
    assert any("momentum: adam has none" in line for line in said)


@pytest.mark.slow
def test_nothing_that_was_made_with_test_episodes_is_read(
    here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = planned_in(cache, SWEEP)
    (first, *_) = searches.first()
    train(first)
    (first.folder / NOTED).write_text(json.dumps({"status": "done"}))  # somebody went on to its test episodes
    (first.folder / RECORD).write_text("not to be read")
    monkeypatch.setattr(plan, "_finished", lambda *_: pytest.fail("records were looked for"))
    again = planned_in(cache, SWEEP)
    assert first.folder not in {each.folder for each in again.first()}
    assert history(again)[0].state == "drawn"  # its round is not over


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("low: 1e-4, high", "low: 1.0, high", 13, "low must be less than high"),
        ("low: 1e-4, high", "low: 0.0, high", 13, "with log it must be more than 0"),
        ("high: 1e-1", "high: 2000.0", 13, "lr"),
        ("type: float, ", "", 13, "Known: float, int, categorical"),
        ("        lr:", "        leraning_rate:", 13, "there is no key 'leraning_rate'"),
        ("        lstm:", "        lstn:", 15, "lstn"),
        ("step: 3", "log: true, step: 3", 15, "a range with log has no step"),
        ("choices: [8, 16]", "choices: [8, 8]", 16, "two of the choices are the same"),
        ("batch: 4", "lr: 1e-2", 13, "has one value"),
        ("methods: [cl_lstm]", "methods: [cl_lsmt]", 6, "cl_lsmt"),
        ("trials: 4", "trials: 0", 8, "a whole number from 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(here: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in SWEEP
    Path("find.yaml").write_text(SWEEP.replace(old, new, 1))
    with pytest.raises(YamlError) as error:
        expanded()
    (problem,) = error.value.problems
    assert problem.line == line
    assert said in str(problem)


def test_a_recipe_without_validation_cannot_be_searched(here: Path) -> None:
    Path("find.yaml").write_text(SWEEP)
    recipe = Path("cl_lstm.yaml")
    recipe.write_text("\n".join(each for each in recipe.read_text().splitlines() if "validation" not in each) + "\n")
    with pytest.raises(YamlError, match=r"find.yaml:6:.*is not validated"):
        expanded()


def test_a_method_that_trains_nothing_cannot_be_searched(here: Path, cache: Path) -> None:
    text = """
data: stand-in
budgets: [smoke]
search:
  - protocols: [omniglot_20way_1shot]
    methods: [count]
    trials: 2
    ranges: {overrides: {lr: {type: float, low: 1e-4, high: 1e-1, log: true}}}
"""
    with pytest.raises(UserError, match=r"search of count on omniglot_20way_1shot, smoke: count trains nothing"):
        list(studies_of(text, cache))


def studies_of(text: str, cache: Path) -> Iterator[PlannedStudy]:
    yield from planned_in(cache, text).studies


@pytest.mark.slow
def test_trials_of_other_ranges_or_samplers_are_of_another_study(here: Path, cache: Path) -> None:
    changes = [("1e-1", "2e-1"), ("at_once: 2", "at_once: 3"), ("batch: 4", "batch: 2"), ("[3, 4]", "[4, 3]")]
    names = {each.name for old, new in [("", ""), *changes] for each in studies_of(SWEEP.replace(old, new), cache)}
    assert len(names) == len(changes) + 1
