"""Finding one's way in pydantic's core schemas: which part of a model an error speaks of, and what it allows.

A location in a pydantic error is not a path in the data: the tag of a discriminated union and the name of a
union's member stand in it too. Walking the schema beside the location tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
_INNER = {"json-or-python": "python_schema", "lax-or-strict": "lax_schema"}
_LISTS = {"list", "tuple", "set", "frozenset"}


class Core:
    """One adapter's core schema, with its definitions at hand."""

    def __init__(self, schema: Any) -> None:
        self.root: Schema = schema
        self.definitions: dict[str, Schema] = {}
        if schema["type"] == "definitions":
            self.root = schema["schema"]
            self.definitions = {each["ref"]: each for each in schema["definitions"]}

    def plain(self, schema: Schema) -> Schema:
        """The schema without what is wrapped around it: validators, defaults, null, a model."""
        while True:
            kind = schema["type"]
            if kind == "definition-ref":
                schema = self.definitions[schema["schema_ref"]]
            elif kind == "chain":
                schema = schema["steps"][0]
            elif kind in _INNER:
                schema = schema[_INNER[kind]]
            elif isinstance(schema.get("schema"), dict):
                schema = schema["schema"]
            else:
                return schema

    def nullable(self, schema: Schema) -> bool:
        """Whether null is allowed."""
        while schema["type"] != "nullable":
            if not isinstance(schema.get("schema"), dict):
                return schema["type"] == "none"
            schema = schema["schema"]
        return True

    def model(self, schema: Schema) -> type | None:
        """The model class that the schema stands for."""
        while schema["type"] != "model":
            if schema["type"] == "definition-ref":
                schema = self.definitions[schema["schema_ref"]]
            elif isinstance(schema.get("schema"), dict):
                schema = schema["schema"]
            else:
                return None
        return schema["cls"]

    def members(self, union: Schema) -> list[Schema]:
        """The members of a plain union."""
        return [each[0] if isinstance(each, tuple) else each for each in union["choices"]]

    def knows(self, schema: Schema, loc: Sequence[str | int]) -> bool:
        """Whether a path of plain keys leads to a field of the schema's models."""
        for part in loc:
            fields = self.plain(schema).get("fields")
            if not isinstance(fields, dict) or part not in fields:
                return False
            schema = fields[part]["schema"]
        return True


@dataclass(frozen=True)
class Choice:
    """A plain union at `loc`, and the schema of its member that raised an error."""

    loc: tuple[str | int, ...]
    union: Schema
    member: Schema


@dataclass(frozen=True)
class Spot:
    """What an error speaks of.

    `loc` is its path in the data; `schema` what is allowed there (None for an unknown key); `owner` the
    schema of the nearest model around it; `unions` the plain unions on the way, outermost first.
    """

    loc: tuple[str | int, ...]
    schema: Schema | None
    owner: Schema | None
    unions: tuple[Choice, ...] = ()


def walk(core: Core, error_loc: tuple[Any, ...], data: Any) -> Spot:
    """Follow an error's location through schema and data."""
    loc: list[str | int] = []
    schema: Schema | None = core.root
    owner: Schema | None = None
    unions: list[Choice] = []
    for part in error_loc:
        assert schema is not None
        here = core.plain(schema)
        kind = here["type"]
        if kind == "tagged-union":
            schema = here["choices"][part]
            continue
        if kind == "union":
            schema = _member(core, here, str(part), at(data, loc))
            unions.append(Choice(tuple(loc), here, schema))
            continue
        if part == "[key]":
            break
        loc.append(part)
        if kind == "model-fields":
            owner = schema
            known = here["fields"].get(part)
            schema = known["schema"] if known else None
        elif kind in _LISTS:
            items = here.get("items_schema") or {"type": "any"}
            schema = items[min(int(part), len(items) - 1)] if isinstance(items, list) else items
        elif kind == "dict":
            schema = here.get("values_schema") or {"type": "any"}
        else:
            schema = {"type": "any"}
        if schema is None:
            break
    return Spot(tuple(loc), schema, owner, tuple(unions))


def suits(core: Core, schema: Schema, value: Any) -> bool:
    """Whether a value has the outer form (list, mapping or single value) that the schema asks for."""
    kind = core.plain(schema)["type"]
    if kind == "union":
        return any(suits(core, each, value) for each in core.members(core.plain(schema)))
    if kind == "any":
        return True
    if isinstance(value, list):
        return kind in _LISTS
    if isinstance(value, dict):
        return kind in {"model-fields", "dict", "tagged-union", "typed-dict"}
    return kind not in {*_LISTS, "model-fields", "dict", "tagged-union", "typed-dict"}


def _member(core: Core, union: Schema, label: str, value: Any) -> Schema:
    """The member of a union that an error's label names: by the model's name, else by its form."""
    members = core.members(union)
    for each in members:
        cls = core.model(each)
        if cls is not None and cls.__name__ in label:
            return each
    for each in members:
        if core.plain(each)["type"] in label.partition("[")[0]:
            return each
    return next((each for each in members if suits(core, each, value)), members[0])


def at(data: Any, loc: Sequence[str | int]) -> Any:
    """The value at a location; None where there is none."""
    for part in loc:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
