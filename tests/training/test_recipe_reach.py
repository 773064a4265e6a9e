"""Every part and every stage of the shipped recipes is reached by some protocol: a shipped one, or one named here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import pytest

from harness.method.registry import load_method
from harness.protocol.load import Loaded, load_protocol
from harness.protocol.models import PROTOCOL
from harness.training.recipe_file import GENERAL, read_recipe, recipe_files, why_left_out
from harness.util.shipped_files import protocol_files

METHODS = [name for name in recipe_files() if "/" not in name]


@dataclass(frozen=True)
class UserCase:
    """A protocol that is not shipped, whose users the recipes have parts or stages for, and why."""

    name: str
    protocol: dict[str, Any]
    why: str


_STREAM = {"ways": 5, "presentations": 10}
_CONTINUAL = {"subtasks": 10, "shots": 5, "queries": 5}
USER_CASES = (
    UserCase(
        "miniimagenet_5way_online",
        {"kind": "online_few_shot", "dataset": "mini_imagenet", "episode": _STREAM, "scoring": {"shots": [1]}},
        "a stream of images of 84x84 needs a net of another size than one of CIFAR-FS; the papers have none of it",
    ),
    UserCase(
        "cifarfs_continual10",
        {"kind": "continual", "dataset": "cifar_fs", "episode": _CONTINUAL},
        "continual learning is shipped on characters, as in the papers; natural images are the next thing to try",
    ),
    UserCase(
        "miniimagenet_continual10",
        {"kind": "continual", "dataset": "mini_imagenet", "episode": _CONTINUAL},
        "the same on larger images",
    ),
    UserCase(
        "omniglot_5way_1shot",
        {"kind": "n_way_k_shot", "dataset": "omniglot", "episode": {"ways": 5, "shots": 1, "queries": 15}},
        "the shipped 20 ways follow NORML; most of the literature reports 5 ways as well",
    ),
    UserCase(
        "omniglot_continual30",
        {"kind": "continual", "dataset": "omniglot", "episode": {"subtasks": 30, "shots": 5, "queries": 5}},
        "more subtasks than the shipped 20, for which the curricula go on to 20 ways and subtasks",
    ),
)
"""Every one of them reaches what no shipped protocol does, which is tested too."""


@functools.cache
def shipped() -> tuple[Loaded, ...]:
    return tuple(load_protocol(name) for name in protocol_files())


def of_users() -> dict[str, Loaded]:
    some = shipped()[0]
    data = {each.name: {"title": each.name, **each.protocol} for each in USER_CASES}
    return {name: Loaded(name, some.path, PROTOCOL.validate_python(each)) for name, each in data.items()}


Spot = tuple[str | int, ...]
"""A part (its number), or a stage of it: number of the part, budget, number of the stage."""


@functools.cache
def reach(method: str) -> tuple[dict[Spot, str], dict[str, set[Spot]]]:
    """Where each part and stage of a method's recipe stands, and which of them each protocol gets."""
    kinds = None if method == GENERAL else load_method(method).cls.kinds
    recipe, document = read_recipe(recipe_files()[method])
    spots: dict[Spot, str] = {}
    for number, part in enumerate(recipe.parts):
        spots[number,] = str(document.place(("parts", number)))
        for name, budget in part.budgets.items():
            for n, stage in enumerate(budget.stages):
                place = document.place(("parts", number, name, "stages", n))
                spots[number, name, n] = f"{place} (part {number}, {name}, stage '{stage.name}')"
    reached: dict[str, set[Spot]] = {}
    for loaded in [*shipped(), *of_users().values()]:
        if kinds is not None and loaded.protocol.task_kind not in kinds:
            continue
        for init in (False, True):
            number, part = next((n, each) for n, each in enumerate(recipe.parts) if each.when.matches(loaded, init))
            reached.setdefault(loaded.name, set()).update(
                {(number,)},
                {
                    (number, name, n)
                    for name, budget in part.budgets.items()
                    for n, stage in enumerate(budget.stages)
                    if not why_left_out(stage, loaded.protocol)
                },
            )
    return spots, reached


@pytest.mark.parametrize("method", METHODS)
def test_every_part_and_stage_is_reached(method: str) -> None:
    spots, reached = reach(method)
    unreached = spots.keys() - set().union(*reached.values())
    assert not unreached, sorted(spots[each] for each in unreached)


@pytest.mark.parametrize("case", [each.name for each in USER_CASES])
def test_a_user_case_is_there_for_what_no_shipped_protocol_reaches(case: str) -> None:
    for method in METHODS:
        _, reached = reach(method)
        others = set().union(*(spots for name, spots in reached.items() if name != case))
        if reached.get(case, set()) - others:
            return
    pytest.fail(f"no recipe has anything for {case} alone: remove it from USER_CASES")
