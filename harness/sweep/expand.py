"""From a sweep file to its runs, each with every name known to be right."""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.method.options import option_problems
from harness.method.registry import LoadedMethod, load_method, method_names
from harness.protocol.load import load_protocol
from harness.sweep.definition import ALL, Exclusion, Names, Resources, Runs, Sweep
from harness.util.errors import UserError
from harness.util.quantities import duration, in_seconds
from harness.util.shipped_files import protocol_files
from harness.yaml_files import scalars
from harness.yaml_files.document import Document
from harness.yaml_files.source_location import Loc, Problem, YamlError, problem_at

if TYPE_CHECKING:
    from harness.protocol.load import Loaded


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: what `harness run` is asked for, and what it may take of the machine."""

    protocol: str
    method: str
    options: Mapping[str, Any]
    budget: str
    seed: int
    data: str
    recipe: Path | None
    overrides: Mapping[str, Any]
    seconds: float | None
    episodes: int | None
    test_episodes: int | None
    priority: int
    resources: Resources
    train_only: bool = False
    searched: int = 0

    @property
    def title(self) -> str:
        options = ", ".join(
            f"{key}={as_text(value)}" for key, value in (*self.options.items(), *self.overrides.items())
        )
        stand_in = ", stand-in data" if self.data != "real" else ""
        own = f"{self.method} ({options})" if options else self.method
        own = f"trial of {own}" if self.train_only else own
        return f"{own} on {self.protocol}, {self.budget}, seed {self.seed}{stand_in}"

    @property
    def words(self) -> list[str]:
        """The words after `harness` that run it, without device, threads and places."""
        words = ["run", self.protocol, "--method", self.method, "--budget", self.budget, "--seed", str(self.seed)]
        for key, value in self.options.items():
            words += ["--set", f"{key}={as_text(value)}"]
        if self.data != "real":
            words += ["--data", self.data]
        if self.recipe is not None:
            words += ["--recipe", str(self.recipe)]
        for key, value in self.overrides.items():
            words += ["--override", f"{key}={as_text(value)}"]
        if self.seconds is not None:
            words += ["--time", in_seconds(self.seconds)]
        if self.episodes is not None:
            words += ["--episodes", str(self.episodes)]
        if self.test_episodes is not None:
            words += ["--test-episodes", str(self.test_episodes)]
        if self.train_only:
            words.append("--train-only")
        if self.searched:
            words += ["--searched", str(self.searched)]
        return words

    @property
    def command(self) -> str:
        return shlex.join(["harness", *self.words])


def as_text(value: Any) -> str:
    """A value as `--set` and `--override` take it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_in_list, value))}]"
    return value if isinstance(value, str) and _is_read_as(value, value) else json.dumps(value)


def _in_list(value: Any) -> str:
    text = as_text(value)
    return text if _is_read_as(f"[{text}]", [value]) else json.dumps(value)


def _is_read_as(text: str, value: Any) -> bool:
    try:
        return bool(scalars.value(text) == value)
    except scalars.Trap:
        return False


def expand(sweep: Sweep, document: Document) -> list[SweepRun]:
    """The runs of a sweep's grids, those of higher priority first and else in the order of the file, each once.

    Raises YamlError with every unknown name (that of the table too), every option that a method does not have and every
    method that does not run on a protocol it is listed with, each at its line, and if no run is left.
    """
    problems: list[Problem] = []
    runs: dict[str, SweepRun] = {}
    for number, grid in enumerate(sweep.runs):
        at = ("runs", number)
        options = [(each, (*at, "options", place)) for place, each in enumerate(grid.options)]
        for run in runs_of(sweep, grid, options, at, document, problems):
            runs.setdefault(run.command, run)
    excluded = _exclusions(sweep, document)
    problems += _idle_exclusions(excluded, list(runs.values()), document)
    problems += _no_such_table(sweep, document)
    if problems:
        raise YamlError(*dict.fromkeys(problems))
    left = [run for run in runs.values() if not any(_agrees(each, run) for each in excluded)]
    if runs and not left:
        raise YamlError(problem_at(document.place(("exclude",), at_key=True), "leaves no run", ("exclude",)))
    return sorted(left, key=lambda run: -run.priority)


def _no_such_table(sweep: Sweep, document: Document) -> Iterator[Problem]:
    """A table that is not there is said before hours of runs, and not at their end."""
    from harness.tables.definition import find_table

    try:
        if sweep.table:
            find_table(sweep.table)
    except UserError as error:
        yield problem_at(document.place(("table",)), str(error), ("table",))


def runs_of(
    sweep: Sweep,
    grid: Runs,
    options_at: Sequence[tuple[Mapping[str, Any], Loc]],
    at: Loc,
    document: Document,
    problems: list[Problem],
) -> Iterator[SweepRun]:
    """Every combination in an entry of a sweep, which stands at `at`, with each of these options, which stand where
    they say; what is wrong goes into `problems`."""
    protocols = _protocols(grid, at, document, problems)
    methods = _methods(grid, at, document, problems)
    anywhere = ALL in (grid.protocols, grid.methods)
    recipe = None if grid.recipe is None else _near(grid.recipe, (*at, "recipe"), document)
    if recipe is not None and not recipe.is_file():
        problems.append(problem_at(document.place((*at, "recipe")), f"there is no file {recipe}", (*at, "recipe")))
    for loaded, method in itertools.product(protocols, methods):
        if loaded.protocol.task_kind not in method.cls.kinds:
            if not anywhere:
                message = f"{method.name} does not run on {loaded.name} (kind {loaded.protocol.kind})"
                problems.append(problem_at(document.place((*at, "methods")), message, (*at, "methods")))
            continue
        for options, place in options_at:
            problems += option_problems_at(method, options, place, document)
            for budget, seed in itertools.product(grid.budgets or sweep.budgets, grid.seeds or sweep.seeds):
                yield SweepRun(
                    protocol=_called(loaded),
                    method=method.target if method.file else method.name,
                    options=options,
                    budget=budget,
                    seed=seed,
                    data=grid.data or sweep.data,
                    recipe=recipe,
                    overrides=grid.overrides,
                    seconds=None if grid.time is None else duration(grid.time, "time"),
                    episodes=grid.episodes,
                    test_episodes=grid.test_episodes,
                    priority=grid.priority,
                    resources=grid.resources or sweep.resources,
                )


def _near(name: str, loc: Loc, document: Document) -> Path:
    """A file that is named at `loc`, beside the file which says so: another than the sweep's where that extends it."""
    return document.place(loc).path.parent / name


def _protocol(name: str, loc: Loc, document: Document) -> Loaded:
    near = _near(name, loc, document)
    return load_protocol(near if near.is_file() else name)


def _called(loaded: Loaded) -> str:
    """What a run calls its protocol: a shipped one by its name, others by their file."""
    return loaded.name if loaded.path in protocol_files().values() else str(loaded.path)


def _protocols(grid: Runs, at: Loc, document: Document, problems: list[Problem]) -> list[Loaded]:
    found = []
    for name, loc in _named(grid.protocols, list(protocol_files()), (*at, "protocols")):
        try:
            found.append(_protocol(name, loc, document))
        except YamlError as error:
            problems += error.problems
        except UserError as error:
            problems.append(problem_at(document.place(loc), str(error), loc))
    return found


def _methods(grid: Runs, at: Loc, document: Document, problems: list[Problem]) -> list[LoadedMethod]:
    found = []
    for name, loc in _named(grid.methods, method_names(), (*at, "methods")):
        try:
            file, _, cls = name.rpartition(":")
            near = _near(file, loc, document)
            found.append(_loaded(f"{near}:{cls}" if file and near.is_file() else name))
        except UserError as error:
            problems.append(problem_at(document.place(loc), str(error), loc))
    return found


@cache
def _loaded(name: str) -> LoadedMethod:
    return load_method(name)


def _named(names: Names, known: list[str], at: Loc) -> list[tuple[str, Loc]]:
    if names == ALL:
        return [(name, at) for name in known]
    return [(name, (*at, number)) for number, name in enumerate(names)]


def option_problems_at(
    method: LoadedMethod, options: Mapping[str, Any], at: Loc, document: Document
) -> Iterator[Problem]:
    """Options that a method does not have, or not with these values."""
    for name, message in option_problems(method.cls, dict(options)):
        yield problem_at(document.place((*at, name), at_key=True), message, (*at, name))


def _agrees(exclusion: Exclusion, run: SweepRun) -> bool:
    wanted = {
        "protocol": exclusion.protocol,
        "method": exclusion.method,
        "budget": exclusion.budget,
        "seed": exclusion.seed,
    }
    return all(value is None or getattr(run, name) == value for name, value in wanted.items()) and all(
        name in run.options and run.options[name] == value for name, value in exclusion.options.items()
    )


def _exclusions(sweep: Sweep, document: Document) -> list[Exclusion]:
    """The exclusions, with protocols called as runs call them."""
    found = []
    for number, exclusion in enumerate(sweep.exclude):
        name = exclusion.protocol
        with contextlib.suppress(UserError):  # what names no protocol agrees with no run, which is said
            name = name and _called(_protocol(name, ("exclude", number, "protocol"), document))
        found.append(exclusion.model_copy(update={"protocol": name}))
    return found


def _idle_exclusions(excluded: list[Exclusion], runs: list[SweepRun], document: Document) -> Iterator[Problem]:
    """An exclusion that leaves nothing out is a misspelt one."""
    for number, exclusion in enumerate(excluded):
        if not any(_agrees(exclusion, run) for run in runs):
            loc = ("exclude", number)
            yield problem_at(document.place(loc), "agrees with no run of the sweep", loc)
