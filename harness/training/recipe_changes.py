"""Changes of a recipe made at the command line: `--lr 1e-3`, `--batch 8`, `--override KEY=VALUE`.

`KEY=VALUE` sets a key of every stage (and of the budget, where the budget has it); `STAGE.KEY=VALUE` that of the stage
of this name alone, whatever the former say. A run is a function of its changes too: they are in the hash of its recipe,
in its record and in its marks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.training.recipe import Budget, EpisodeChange, Optimizer, Stage, Validation
from harness.util.errors import UserError, nearest
from harness.util.option_names import option
from harness.yaml_files.messages import findings
from harness.yaml_files.scalars import Trap, value

BUDGET: TypeAdapter[Budget] = TypeAdapter(Budget)
_OPTIMIZER = tuple(f"optimizer.{key}" for key in Optimizer.model_fields if key != "lr")
_OWN = ("name", "objective", "kind", "episode", "optimizer")
STAGE_KEYS = (
    *(key for key in Stage.model_fields if key not in _OWN),
    *_OPTIMIZER,
    *(f"episode.{key}" for key in EpisodeChange.model_fields),
)
"""What can be changed of a stage; what it trains on, and how it is called, is a matter of the recipe."""
BUDGET_KEYS = ("augment", *(f"validation.{key}" for key in Validation.model_fields))
"""What can be changed of a budget that no stage has."""
_ELSEWHERE = {
    "options": "options of the method are set with {set}",
    "precision": "the precision is chosen with {precision}",
    "stages": "name a stage of it: 'STAGE.KEY'",
    "optimizer.lr": "the learning rate is the key 'lr'",
}


def parse_changes(lr: str | None, batch: str | None, overrides: Iterable[str]) -> dict[str, Any]:
    """Changes from the texts of the command line: key to value, read as in a recipe (16, 1e-3, null, [flip, crop]).

    Raises UserError for what is not of the form KEY=VALUE, for words that are no plain value, and for a key that is
    given twice.
    """
    pairs = [("lr", lr, "--lr"), ("batch", batch, "--batch")]
    for each in overrides:
        key, equals, text = each.partition("=")
        if not equals or not key.strip() or not text.strip():
            raise UserError(f"--override is '{each}'; write it as KEY=VALUE or STAGE.KEY=VALUE, as in lr=1e-3")
        pairs.append((key.strip(), text, f"--override {key.strip()}"))
    changes: dict[str, Any] = {}
    for key, given, where in pairs:
        if given is None:
            continue
        if key in changes:
            raise UserError(f"{where}: '{key}' is given twice")
        try:
            changes[key] = value(given.strip())
        except Trap as trap:
            raise UserError(f"{where}: {trap}") from None
    return changes


def changed(budget: Budget, changes: Mapping[str, Any], left_out: Mapping[str, str]) -> tuple[Budget, dict[str, Any]]:
    """The budget with changes, and those of them that change anything, in order of their keys.

    `left_out` gives why stages of the recipe are not in the budget, by name. Raises UserError for a stage or key that
    there is not, and for a value that is not allowed.
    """
    if changes and not budget.stages:
        raise UserError(f"'{min(changes)}' cannot be changed: this budget of the recipe trains nothing")
    parsed = sorted((*_split(key, budget, left_out), key) for key in changes)  # '' first: a stage's own come after it
    effective = {}
    # Together what stands in one mapping: of an optimiser with another name, other settings may be allowed.
    for (stage, _), group in groupby(parsed, lambda each: (each[0], each[1].partition(".")[0])):
        data, together = budget.model_dump(), list(group)
        for _, path, key in together:
            if path.startswith("validation.") and budget.validation is None:
                raise UserError(f"{_named(key)}: this budget of the recipe has no validation")
            before = copy.deepcopy(data)
            _set(data, stage, path, changes[key])
            if data != before:
                effective[key] = changes[key]
        budget = _validated(data, together)
    return budget, dict(sorted(effective.items()))


def in_words(changes: Mapping[str, Any]) -> list[str]:
    """Each change as it is written at the command line: 'lr=0.001'."""
    return [f"{key}={_text(value)}" for key, value in changes.items()]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _split(key: str, budget: Budget, left_out: Mapping[str, str]) -> tuple[str, str]:
    """The name of the stage that a key speaks of ('' for all) and the key in it."""
    names = dict.fromkeys([*(stage.name for stage in budget.stages), *left_out])
    scoped = [name for name in names if key.startswith(f"{name}.")]
    if not scoped:
        known = [*STAGE_KEYS, *BUDGET_KEYS]
        if key in known:
            return "", key
        raise UserError(_no_such(key, key, known, list(names)))
    name = max(scoped, key=len)
    rest = key.removeprefix(f"{name}.")
    if name in left_out and all(stage.name != name for stage in budget.stages):
        raise UserError(f"{_named(key)}: stage '{name}' is left out on this protocol: {left_out[name]}")
    if rest not in STAGE_KEYS:
        raise UserError(_no_such(key, rest, list(STAGE_KEYS), []))
    return name, rest


def _named(key: str) -> str:
    """The option that a change was made with."""
    return option(key) if key in {"lr", "batch"} else f"{option('override')} {key}"


def _no_such(given: str, key: str, known: list[str], stages: list[str]) -> str:
    where = _named(given)
    for name in (key, key.partition(".")[0]):
        if name in _ELSEWHERE:
            return f"{where}: {_ELSEWHERE[name].format(set=option('set'), precision=option('precision'))}"
    if key in BUDGET_KEYS:
        return f"{where}: '{key}' is of the whole budget; leave the stage out"
    stage = next((key.removesuffix(f".{each}") for each in STAGE_KEYS if key.endswith(f".{each}")), None)
    if stage is not None and stages and stage not in {"episode", "optimizer", "validation"}:
        close = nearest(stage, stages)
        hint = f" Did you mean '{close}'?" if close else ""
        return f"{where}: there is no stage '{stage}'.{hint} Stages: {', '.join(stages)}."
    guess = nearest(key, [*known, *(f"{stage}.{each}" for stage in stages for each in known)])
    hint = f" Did you mean '{guess}'?" if guess else ""
    whose = f", or the same behind a stage's name and a dot ({', '.join(stages)})" if stages else ""
    return f"{where}: there is no key '{key}'.{hint} Allowed: {', '.join(known)}{whose}."


def _set(data: dict[str, Any], stage: str, path: str, value: Any) -> None:
    """Sets one value in a budget's data, of the stages of one name or of all."""
    if stage:
        for each in data["stages"]:
            if each["name"] == stage:
                if path.startswith("optimizer."):
                    each["optimizer"] = each["optimizer"] or dict(data["optimizer"])
                _put(each, path, value)
    elif path == "lr":
        data["optimizer"]["lr"] = value
        for each in data["stages"]:
            each["lr"] = None
            if each["optimizer"]:
                each["optimizer"]["lr"] = value
    elif path in BUDGET_KEYS or path in Budget.model_fields or path in _OPTIMIZER:
        _put(data, path, value)
        for each in data["stages"]:
            if path in each:
                each[path] = None
            elif path in _OPTIMIZER and each["optimizer"]:
                _put(each, path, value)
    else:
        for each in data["stages"]:
            _put(each, path, value)


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    key, _, rest = path.partition(".")
    if rest:
        data[key] = {**(data[key] or {}), rest: value}
    else:
        data[key] = value


def _validated(data: dict[str, Any], together: list[tuple[str, str, str]]) -> Budget:
    """The budget; UserError with the first thing that is wrong, under the change that it speaks of."""
    try:
        return BUDGET.validate_python(data)
    except ValidationError as error:
        for each in findings(BUDGET, data, error):
            ends = {path.rpartition(".")[2]: key for _, path, key in together}
            key = ends.get(str(each.loc[-1]), together[0][2]) if each.loc else together[0][2]
            raise UserError(f"{_named(key)}: {each.message}") from None
        raise
