"""The JSON Schema of protocol files, which may be incomplete where they extend another file."""

from __future__ import annotations

from typing import Any

from harness.protocol.models import KINDS, json_schema
from harness.yaml_files.extends import EXTENDS


def file_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a protocol file as it is written.

    A file without `extends` must be a whole protocol of its kind. One with `extends` may leave out whatever
    it inherits: the same keys are known, at the top and in the mappings that are merged key by key
    (`episode`, `scoring`, `dataset`), but none is required. Lists are replaced, so their entries must be whole.
    """
    whole = json_schema()
    head = {key: whole.pop(key) for key in ("$schema", "title")}
    definitions = whole.pop("$defs")
    models = [definitions[model.__name__] for model in KINDS.values()]
    properties: dict[str, list[Any]] = {}
    for model in models:
        for key, schema in model["properties"].items():
            allowed = properties.setdefault(key, [])
            partial = _partial(schema, definitions) if key in {"episode", "scoring", "dataset"} else schema
            if partial not in allowed:
                allowed.append(partial)
    extends = {"type": "string", "minLength": 1, "description": "the file whose keys this one takes over"}
    extending = {
        "properties": {EXTENDS: extends, **{key: _any_of(each) for key, each in properties.items()}},
        "additionalProperties": False,
    }
    return {
        **head,
        "type": "object",
        "if": {"required": [EXTENDS]},
        "then": extending,
        "else": whole,
        "$defs": definitions,
    }


def _partial(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping (or of one among other things) of which any key may be missing."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [_partial(each, definitions) for each in schema["anyOf"]]}
    if "$ref" not in schema:
        return schema
    whole = definitions[schema["$ref"].rpartition("/")[2]]
    partial = {key: value for key, value in whole.items() if key not in {"required", "default"}}
    partial["properties"] = {key: _partial(each, definitions) for key, each in whole.get("properties", {}).items()}
    return partial


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
