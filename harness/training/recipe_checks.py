"""Checking a recipe file before it is used: all of its parts and budgets, and not only those of one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.method.registry import LoadedMethod, load_method, method_names
from harness.protocol.load import Loaded, load_protocol
from harness.training.recipe import Recipe
from harness.training.recipe_file import (
    GENERAL,
    check_method,
    option_problems_at,
    read_recipe,
    recipe_files,
    resolve_in,
)
from harness.training.recipe_library import FAMILIES, LIBRARY
from harness.util.atomic_files import is_file
from harness.util.shipped_files import protocol_files
from harness.yaml_files.document import Document, parse_yaml
from harness.yaml_files.extends import EXTENDS
from harness.yaml_files.source_location import Problem, YamlError, problem_at

_OWN_KEYS = {"method", "parts", FAMILIES, *LIBRARY}


@dataclass(frozen=True)
class CheckedRecipe:
    """A recipe that holds; `path` is its file, of which the one that was given may be a family.

    `method` is what its options were checked against, None where that is not known by name; `protocols` is how many
    shipped ones it was tried on.
    """

    path: Path
    recipe: Recipe
    method: LoadedMethod | None
    protocols: int


def recipe_named(text: str) -> Path | None:
    """The recipe file that a user names by path, or a shipped one by name; None for anything else (a protocol).

    What it is shows in its keys, or in those of the file that it extends.
    """
    path = Path(text)
    if not is_file(path):
        return None if text in protocol_files() else recipe_files().get(text)
    return path if _is_recipe(path, 0) else None


def check_recipe(path: Path, method: LoadedMethod | None = None) -> CheckedRecipe:
    """Checks a recipe, or the one that a file of a family belongs to, on every shipped protocol of its method's kinds.

    `method` is what it is for, where that is not the method which it names. Raises YamlError with all that is wrong,
    each problem at its line: what cannot be read, another method's recipe, options that the method has not, a part that
    is never taken, a stage that cannot be.
    """
    path = _whole(path)
    recipe, document = read_recipe(path)
    if method is None and recipe.method in method_names():
        method = load_method(recipe.method)
    if method is not None:
        check_method(recipe, document, method)
    problems = [*_never_taken(recipe, document), *(_wrong_options(recipe, document, method) if method else ())]
    protocols = [load_protocol(name) for name in protocol_files()]
    if method is not None:
        protocols = [each for each in protocols if each.protocol.task_kind in method.cls.kinds]
    for loaded in protocols:
        problems += _unfit(recipe, document, loaded)
    if problems:
        raise YamlError(*sorted(dict.fromkeys(problems), key=lambda each: (str(each.path), each.line, each.column)))
    return CheckedRecipe(path, recipe, method if recipe.method != GENERAL else None, len(protocols))


def _is_recipe(path: Path, depth: int) -> bool:
    try:
        data: Any = parse_yaml(path).data
    except YamlError:
        return False
    if "kind" in data or not isinstance(data, dict):
        return False
    if _OWN_KEYS & data.keys():
        return True
    parent = data.get(EXTENDS)
    if not isinstance(parent, str) or depth > 10:
        return False
    near = path.parent / parent
    if is_file(near):
        return _is_recipe(near, depth + 1)
    return parent in recipe_files() and parent not in protocol_files()


def _whole(path: Path) -> Path:
    """The recipe that a file without a method is a family (or the library) of: that of its folder's name."""
    whole = path.parent.parent / f"{path.absolute().parent.name}.yaml"
    return path if "method" in parse_yaml(path).data or not is_file(whole) else whole


def _never_taken(recipe: Recipe, document: Document) -> list[Problem]:
    found = []
    for number, part in enumerate(recipe.parts):
        before = next((n for n, each in enumerate(recipe.parts[:number]) if each.when.covers(part.when)), None)
        if before is not None:
            at = document.place(("parts", before))
            message = f"never taken: the part at {at} comes first and takes every protocol that this one is for"
            found.append(problem_at(document.place(("parts", number)), message, ("parts", number)))
    return found


def _wrong_options(recipe: Recipe, document: Document, method: LoadedMethod) -> list[Problem]:
    return [
        problem
        for number, part in enumerate(recipe.parts)
        for name, budget in part.budgets.items()
        for problem in option_problems_at(method, budget, document, ("parts", number, name))
    ]


def _unfit(recipe: Recipe, document: Document, loaded: Loaded) -> list[Problem]:
    """What cannot be on a protocol, of the part that it gets; that it gets none is no problem of the recipe."""
    found: list[Problem] = []
    for init in (False, True):
        for part in [each for each in recipe.parts if each.when.matches(loaded, init)][:1]:
            for name in part.budgets:
                try:
                    resolve_in(recipe, document, loaded, name, init)
                except YamlError as error:
                    found += error.problems
    return found
