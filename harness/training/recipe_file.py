"""Recipes as files: where a method's is, and which part and stages of it a protocol gets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.method.options import option_problems
from harness.method.registry import LoadedMethod
from harness.protocol.load import Loaded
from harness.protocol.models import AnyProtocol
from harness.training.recipe import BUDGETS, Budget, Part, Recipe, Stage, staged
from harness.training.recipe_changes import changed
from harness.training.recipe_library import FAMILIES, LIBRARY, written_out
from harness.util.errors import UserError
from harness.util.option_names import option
from harness.util.shipped_files import recipes_dir
from harness.yaml_files.document import Document, validated
from harness.yaml_files.extends import EXTENDS, inherited
from harness.yaml_files.source_location import Loc, Place, Problem, YamlError, problem_at, shown

RECIPE: TypeAdapter[Recipe] = TypeAdapter(Recipe)
GENERAL = "default"
"""The method that the recipe for all methods without one of their own names."""


@dataclass(frozen=True)
class LeftOut:
    """A stage of a budget that a protocol does not get, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Resolved:
    """The budget that a method has on a protocol, and where in which file it was found.

    `name` is the budget's, which differs from `requested` where the part has none of that name. `part`, `stages` and
    `options` are where the part that was taken begins, and where each stage and option of the budget stands. `changes`
    are those made at the command line; `custom` is whether the recipe is not the method's own and says something else.
    """

    path: Path
    requested: str
    name: str
    budget: Budget
    part: Place
    stages: tuple[Place, ...]
    options: Mapping[str, Place]
    left_out: tuple[LeftOut, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    custom: bool = False

    @contextlib.contextmanager
    def naming_options(self, given: Mapping[str, Any]) -> Iterator[None]:
        """Adds to a UserError, of a method that cannot be built, which of its options stand where in the recipe.

        `given` are options of the command line, which go over those of the recipe.
        """
        try:
            yield
        except UserError as error:
            own = [
                f"{name}={self.budget.options[name]} ({at})" for name, at in self.options.items() if name not in given
            ]
            raise UserError(f"{error}\n  options of the recipe: {', '.join(own)}" if own else str(error)) from error

    @property
    def notes(self) -> list[str]:
        """What a user should know of how the budget came about."""
        if self.name == self.requested:
            return []
        return [f"{shown(self.path)} has no budget '{self.requested}' here; its next smaller, '{self.name}', is used"]


def recipe_files() -> dict[str, Path]:
    """The shipped recipe files by what `extends` calls them: 'lstm', 'cl_lstm/omniglot'."""
    folder = recipes_dir()
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def recipe_path(method: str, own_file: Path) -> Path:
    """Where a method's recipe is: the shipped one of its name, a YAML beside its own file, or the general one."""
    for path in (recipes_dir() / f"{method}.yaml", own_file.with_suffix(".yaml")):
        if path.is_file():
            return path
    return recipes_dir() / f"{GENERAL}.yaml"


def read_recipe(path: Path) -> tuple[Recipe, Document]:
    """A recipe with what it extends and takes over written out, and the document that says where everything stands.

    Raises YamlError with all that is wrong, each problem at its line.
    """
    document = written_out(_inherited(path), _inherited)
    return validated(document, RECIPE, also=(EXTENDS, FAMILIES, *LIBRARY)), document


def load_budget(
    path: Path, loaded: Loaded, budget: str, init: bool = False, protocol: AnyProtocol | None = None
) -> Budget:
    """The named budget of the part of a recipe that fits the protocol: that of `resolve_budget`."""
    return resolve_budget(path, loaded, budget, init, protocol).budget


def resolve_for(
    method: LoadedMethod,
    loaded: Loaded,
    name: str,
    recipe: Path | None = None,
    init: bool = False,
    protocol: AnyProtocol | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Resolved:
    """`resolve_budget` for a method: of its own recipe, or of another one that the user names."""
    own = recipe_path(method.name, method.own_file)
    found = resolve_budget(recipe or own, loaded, name, init, protocol, method, changes)
    if recipe is None:
        return found
    plain = resolve_budget(recipe, loaded, name, init, protocol).budget
    try:
        usual = resolve_budget(own, loaded, name, init, protocol).budget
    except UserError:  # its own recipe is broken, or has nothing for this protocol
        return replace(found, custom=True)
    return replace(found, custom=plain != usual)


def resolve_budget(
    path: Path,
    loaded: Loaded,
    name: str,
    init: bool = False,
    protocol: AnyProtocol | None = None,
    method: LoadedMethod | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Resolved:
    """The named budget of the part of a recipe that fits the protocol, and how it came about.

    Where the part has no budget of this name, the next smaller one that it has is taken. Stages with more classes or
    later labels than the protocol's episodes are left out, so that growing episodes can be written down once for
    protocols of all lengths and delays.

    `init` is whether training begins from another run's weights; `protocol` is the loaded one on the data that are
    used, if those are not its own; `method` is what will be trained, where that is known; `changes` are those of the
    command line (`recipe_changes`). Raises YamlError if no part fits, none of its budgets is as small, a stage cannot
    be, the recipe is another method's or gives options that it has not; UserError for a change that cannot be made.
    """
    recipe, document = read_recipe(path)
    if method is not None:
        check_method(recipe, document, method)
    return resolve_in(recipe, document, loaded, name, init, protocol, method, changes)


def resolve_in(
    recipe: Recipe,
    document: Document,
    loaded: Loaded,
    name: str,
    init: bool = False,
    protocol: AnyProtocol | None = None,
    method: LoadedMethod | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Resolved:
    """`resolve_budget` in a recipe that has been read."""
    number = _fitting_part(recipe, document, loaded, init)
    used = _budget_name(recipe.parts[number], document, number, name)
    whole, loc = recipe.parts[number].budgets[used], ("parts", number, used)
    options = {each: document.place((*loc, "options", each)) for each in whole.options}
    if method is not None:
        wrong = option_problems_at(method, whole, document, loc)
        if wrong:
            raise YamlError(*wrong)
    reasons = [why_left_out(stage, loaded.protocol) for stage in whole.stages]
    places = [document.place((*loc, "stages", each)) for each in range(len(whole.stages))]
    if whole.stages and all(reasons):
        message = f"{loaded.name} gets no stage of '{used}': {'; '.join(dict.fromkeys(reasons))}"
        raise YamlError(problem_at(document.place((*loc, "stages")), message, (*loc, "stages")))
    chosen = [each for each, reason in enumerate(reasons) if not reason]
    for each in chosen:
        _check_stage(whole.stages[each], protocol or loaded.protocol, places[each], (*loc, "stages", each))
    budget = whole.model_copy(update={"stages": [whole.stages[each] for each in chosen]})
    left_out = tuple(LeftOut(stage.name, why) for stage, why in zip(whole.stages, reasons, strict=True) if why)
    budget, effective = changed(budget, changes or {}, {each.name: each.reason for each in left_out})
    if effective:
        _check_changed(budget, loaded.protocol, protocol or loaded.protocol)
    part, stages = document.place(("parts", number)), tuple(places[each] for each in chosen)
    return Resolved(document.path, name, used, budget, part, stages, options, left_out, effective)


def check_method(recipe: Recipe, document: Document, method: LoadedMethod) -> None:
    """Raises YamlError where the recipe is another method's."""
    if recipe.method not in {method.name, method.own_file.stem, GENERAL}:
        message = (
            f"this is a recipe of '{recipe.method}', not of '{method.name}'; to take it over, write a recipe of "
            f"{method.name} with 'extends: {document.path.name}'"
        )
        raise YamlError(problem_at(document.place(("method",)), message, ("method",)))


def _fitting_part(recipe: Recipe, document: Document, loaded: Loaded, init: bool) -> int:
    for number, part in enumerate(recipe.parts):
        if part.when.matches(loaded, init):
            return number
    message = f"no part of this recipe is for {loaded.name} (kind {loaded.protocol.kind})"
    raise YamlError(problem_at(document.place(("parts",), at_key=True), message, ("parts",)))


def _budget_name(part: Part, document: Document, number: int, requested: str) -> str:
    """The budget of the requested name, or else the next smaller one."""
    for name in reversed(BUDGETS[: BUDGETS.index(requested) + 1]):
        if name in part.budgets:
            return name
    message = f"this part of the recipe has no budget '{requested}' and none smaller; it has {', '.join(part.budgets)}"
    raise YamlError(problem_at(document.place(("parts", number)), message, ("parts", number)))


def why_left_out(stage: Stage, protocol: AnyProtocol) -> str:
    """Why a protocol does not get a stage; empty if it does."""
    episode, most = stage.episode, None if protocol.masks else protocol.ways
    for key in ("ways", "subtasks"):
        value = getattr(episode, key)
        if most is not None and value is not None and value > most:
            return f"{value} {key} are more than the {most} of the protocol"
    latest = protocol.label_delay if protocol.stream and stage.kind is None else None
    if latest is not None and (episode.label_delay or 0) > latest:
        return f"label delay {episode.label_delay} is later than the protocol's {protocol.label_delay}"
    return ""


def _inherited(path: Path) -> Document:
    return inherited(path, recipe_files(), "recipe")


def option_problems_at(method: LoadedMethod, budget: Budget, document: Document, loc: Loc) -> list[Problem]:
    """What is wrong with the options of the budget at `loc`, each problem at its line."""
    found = option_problems(method.cls, budget.options)
    places = [(*loc, "options", name) for name, _ in found]
    return [problem_at(document.place(at), message, at) for at, (_, message) in zip(places, found, strict=True)]


def _check_changed(budget: Budget, own: AnyProtocol, used: AnyProtocol) -> None:
    """Raises UserError where a stage whose episode was changed is none that the protocol may have."""
    for stage in budget.stages:
        reason = why_left_out(stage, own)
        if reason:
            raise UserError(f"{option('override')}: stage '{stage.name}' cannot be trained on: {reason}")
        staged(used, stage.episode, stage.kind)


def _check_stage(stage: Stage, protocol: AnyProtocol, place: Place, loc: Loc) -> None:
    try:
        staged(protocol, stage.episode, stage.kind)
    except UserError as error:
        raise YamlError(problem_at(place, str(error), loc)) from None
