"""The JSON Schema of recipe files as they are written: with names and lists in place of what they stand for."""

from __future__ import annotations

from typing import Any

from harness.training.curriculum import BINDING, UNTIL
from harness.training.recipe import BUDGETS, Recipe
from harness.training.recipe_library import FAMILIES, LIKE
from harness.yaml_files.extends import EXTENDS

_TEXT = {"type": "string", "minLength": 1}


def recipe_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe file, of a file of a family and of a library of named stages.

    No key is required at the top, since another file may give it. A stage or a budget that is like a named one may
    leave out whatever that one has, and most values of a stage may be lists: one stage for each of their entries.
    """
    whole = Recipe.model_json_schema()
    models = whole.pop("$defs")
    models["Part"]["properties"] |= {name: _described(models["Part"], name, _ref("AnyBudget")) for name in BUDGETS}
    models["Part"]["anyOf"] = [{"required": [name]} for name in BUDGETS]
    models["Budget"]["properties"] |= {
        LIKE: _named("a named budget that this one is laid over, key by key"),
        "options": {"anyOf": [_named("named options"), models["Budget"]["properties"]["options"]]},
        "stages": {"type": "array", "items": _ref("AnyStage"), "description": "what is run, one after another"},
    }
    del models["Validation"]["required"]
    required = models["Stage"].pop("required")
    models["Stage"] = _as_written(models["Stage"])
    models["EpisodeChange"]["properties"] = {
        key: _or_list(value) for key, value in models["EpisodeChange"]["properties"].items()
    }
    models["AnyBudget"] = {"anyOf": [_named("a named budget"), _ref("Budget")]}
    # A stage under a name may be a part of one, which others are laid over.
    whole_stage = {"allOf": [_ref("Stage"), {"anyOf": [{"required": [LIKE]}, {"required": required}]}]}
    models["AnyStage"] = {
        "anyOf": [
            _named("a named stage, or a named list of them"),
            {"type": "array", "items": _ref("AnyStage")},
            whole_stage,
        ]
    }
    own = {key: value for key, value in whole["properties"].items() if key != "parts"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "training recipe of a method",
        "description": "how a method is trained, as harness.training reads it",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            EXTENDS: {**_TEXT, "description": "the recipe whose keys this one takes over, by file or shipped name"},
            **own,
            FAMILIES: {"type": "array", "items": _TEXT, "description": "files beside it whose parts follow its own"},
            "options": _mapping({"type": "object"}, "options of the method, by a name"),
            "stages": _mapping({"anyOf": [_ref("AnyStage"), _ref("Stage")]}, "stages, or lists of them, by a name"),
            "budgets": _mapping(_ref("AnyBudget"), "budgets, by a name"),
            "parts": whole["properties"]["parts"],
        },
        "$defs": models,
    }


def _as_written(stage: dict[str, Any]) -> dict[str, Any]:
    until = {"enum": [BINDING], "description": "end once labels are bound: at the loss 0.35 ln(ways) + 0.1"}
    like = _named("a named stage that this one is laid over, key by key")
    properties = {
        key: value if key in {"episode", "optimizer"} else _or_list(value) for key, value in stage["properties"].items()
    }
    return {**stage, "properties": {LIKE: like, UNTIL: until, **properties}}


def _or_list(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value, or of a list with one for each stage of a curriculum."""
    outer = {key: value for key, value in schema.items() if key in {"default", "description", "title"}}
    value = {key: each for key, each in schema.items() if key not in outer}
    return {**outer, "anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


def _described(model: dict[str, Any], key: str, schema: dict[str, Any]) -> dict[str, Any]:
    said = model["properties"][key].get("description")
    return {**schema, "description": said} if said else schema


def _named(what: str) -> dict[str, Any]:
    return {**_TEXT, "description": what}


def _mapping(values: dict[str, Any], what: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values, "description": what}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}
