"""From the searches of a sweep file to studies: one for each combination of protocol, method and budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.method.registry import LoadedMethod, load_method
from harness.protocol.load import for_data, load_protocol
from harness.records.canonical import sha256_of
from harness.runs.resolve import prepare
from harness.sweep.definition import Search, Sweep
from harness.sweep.expand import SweepRun, option_problems_at, runs_of
from harness.sweep.places import Places
from harness.sweep.plan import request_of
from harness.sweep.ranges import AnyRange, values_to_check
from harness.training.recipe import Budget
from harness.training.recipe_file import resolve_for
from harness.util.errors import UserError
from harness.util.option_names import option
from harness.yaml_files.document import Document
from harness.yaml_files.source_location import Loc, Problem, YamlError, problem_at

OPTIONS, OVERRIDES = "options", "overrides"
"""Names of parameters begin with one of these and a dot: 'options.width', 'overrides.lr'."""


@dataclass(frozen=True)
class Study:
    """A search of one method on one protocol and budget. `base` is a trial before anything is drawn."""

    search: Search
    base: SweepRun
    seeds: tuple[int, ...]

    @property
    def title(self) -> str:
        return f"{self.base.method} on {self.base.protocol}, {self.base.budget}"

    @property
    def ranges(self) -> dict[str, AnyRange]:
        """Parameters by name and what they are drawn from."""
        own = self.search.ranges
        return {
            **{f"{OPTIONS}.{name}": each for name, each in own.options.items()},
            **{f"{OVERRIDES}.{name}": each for name, each in own.overrides.items()},
        }

    def trial(self, values: Mapping[str, Any]) -> SweepRun:
        """The run that trains with these values of the parameters and scores no test episode."""
        return dataclasses.replace(self._with(values), train_only=True)

    def best_runs(self, values: Mapping[str, Any], trials: int) -> list[SweepRun]:
        """The runs of the best of so many trials, under every seed."""
        best = self._with(values)
        return [dataclasses.replace(best, seed=seed, searched=trials) for seed in self.seeds]

    def _with(self, values: Mapping[str, Any]) -> SweepRun:
        parts: dict[str, dict[str, Any]] = {OPTIONS: {}, OVERRIDES: {}}
        for name, value in values.items():
            part, _, key = name.partition(".")
            parts[part][key] = value
        return dataclasses.replace(
            self.base,
            options={**self.base.options, **parts[OPTIONS]},
            overrides={**self.base.overrides, **parts[OVERRIDES]},
        )


@dataclass(frozen=True)
class PlannedStudy:
    """A study, and the name under which its trials are kept: it changes with all that a trial's score depends on."""

    study: Study
    name: str


def expand_searches(sweep: Sweep, document: Document) -> list[Study]:
    """The studies of a sweep's searches, in the order of the file.

    Raises YamlError with everything that `expand` refuses, with every end of a range that is not allowed and with every
    recipe that is not validated, each at its line.
    """
    problems: list[Problem] = []
    studies: list[Study] = []
    for number, search in enumerate(sweep.search):
        at: Loc = ("search", number)
        seeds = search.seeds or sweep.seeds
        one = search.model_copy(update={"seeds": seeds[:1]})
        own = [(search.options, (*at, OPTIONS))]
        bases = list(runs_of(sweep, one, own, at, document, problems))
        problems += _given_twice(search, at, document)
        for base in bases:
            problems += _range_problems(search, base, at, document)
        studies += [Study(search, base, tuple(seeds)) for base in bases]
    if problems:
        raise YamlError(*dict.fromkeys(problems))
    return studies


def plan_studies(studies: Sequence[Study], places: Places) -> list[PlannedStudy]:
    """Every study with its name. Raises UserError for data that are not there or cannot validate, and for a method that
    trains nothing, naming the study."""
    import torch

    from harness.runs.run import training_of
    from harness.training.loop import has_updates

    planned = []
    for study in studies:
        try:
            prepared = prepare(request_of(study.base, places))
        except UserError as error:
            raise UserError(f"search of {study.title}: {error}") from None
        if prepared.budget.validation is None:
            raise UserError(
                f"search of {study.title}: {prepared.dataset.name} has no validation classes for its episodes, and "
                "trials are compared by validation scores"
            )
        # On the CPU: who only plans or drives runs holds no memory of a GPU.
        if not has_updates(training_of(dataclasses.replace(prepared, device=torch.device("cpu")), lambda _: None)):
            raise UserError(f"search of {study.title}: {prepared.method.name} trains nothing that could be searched")
        search = study.search
        decides = {
            "identity": prepared.identity,
            "version": prepared.method.cls.version,
            **search.model_dump(mode="json", include={"ranges", "at_once", "sampler", "sampler_seed"}),
        }
        own = f"{prepared.method.name}-{prepared.loaded.name}-{prepared.identity['budget']}"
        planned.append(PlannedStudy(study, f"{own}-{sha256_of(decides)[:10]}"))
    return planned


def _given_twice(search: Search, at: Loc, document: Document) -> Iterator[Problem]:
    for part in (OPTIONS, OVERRIDES):
        for name in getattr(search.ranges, part).keys() & getattr(search, part).keys():
            loc = (*at, "ranges", part, name)
            message = f"'{name}' is under {part} of this search too, where it has one value"
            yield problem_at(document.place(loc, at_key=True), message, loc)


def _range_problems(search: Search, base: SweepRun, at: Loc, document: Document) -> Iterator[Problem]:
    """Values of ranges that the method or its recipe does not allow, and a recipe without validation."""
    method, inside = load_method(base.method), (*at, "ranges")
    for name, each in search.ranges.options.items():
        for value in values_to_check(each):
            yield from option_problems_at(method, {name: value}, (*inside, OPTIONS), document)
    for name, each in search.ranges.overrides.items():
        loc = (*inside, OVERRIDES, name)
        for value in values_to_check(each):
            try:
                _budget(method, base, {name: value})
            except UserError as error:
                yield problem_at(document.place(loc), str(error).removeprefix(f"{option('override')} "), loc)
    try:
        budget = _budget(method, base, {})
    except YamlError as error:
        yield from error.problems
    except UserError as error:
        yield problem_at(document.place((*at, OVERRIDES)), str(error), (*at, OVERRIDES))
    else:
        if budget.validation is None:
            message = f"budget {base.budget} of {base.method} is not validated, and trials are compared by that score"
            yield problem_at(document.place((*at, "methods")), message, (*at, "methods"))


def _budget(method: LoadedMethod, base: SweepRun, changes: Mapping[str, Any]) -> Budget:
    loaded = load_protocol(base.protocol)
    together = {**base.overrides, **changes}
    protocol = for_data(loaded, base.data)
    return resolve_for(method, loaded, base.budget, base.recipe, False, protocol, together).budget
