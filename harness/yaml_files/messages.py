"""Pydantic's errors in plain words: what was found, what is allowed, and where in the data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.util.errors import all_of, nearest
from harness.yaml_files.pydantic_schema import Choice, Core, Schema, Spot, at, suits, walk
from harness.yaml_files.scalars import Trap, scalar
from harness.yaml_files.source_location import Loc


@dataclass(frozen=True)
class Finding:
    """One error: `loc` is what it speaks of, `at` what in the file to point to (its key if `at_key`)."""

    loc: Loc
    message: str
    at: Loc
    at_key: bool = False


_ORDER = {
    "greater_than_equal",
    "greater_than",
    "less_than_equal",
    "less_than",
    "multiple_of",
    "finite_number",
}
_SENTENCE = re.compile(r"([a-z_]+(?:\.[a-z_]+|\[\d+\])*): (.*)", re.DOTALL)
"""What a validator says of one key: its path, and the rest."""

_SIZE = {"too_short", "too_long", "string_too_short", "string_too_long"}
_FORM = {"literal_error", "enum", "int_from_float", "string_pattern_mismatch", "none_required"}


def findings(adapter: TypeAdapter[Any], data: Any, error: ValidationError, also: tuple[str, ...] = ()) -> list[Finding]:
    """Everything that is wrong with `data`, each thing once.

    `also` names keys that are allowed at the top besides those of the model.
    """
    core = Core(adapter.core_schema)
    return list(dict.fromkeys(_findings(core, adapter, data, error, also)))


def _findings(
    core: Core, adapter: TypeAdapter[Any], data: Any, error: ValidationError, also: tuple[str, ...]
) -> Iterator[Finding]:
    for each in error.errors(include_url=False):
        kind = each["type"]
        spot = walk(core, each["loc"], data)
        other = next((choice for choice in spot.unions if not _meant(core, choice, data)), None)
        if kind in {"union_tag_invalid", "union_tag_not_found"}:
            yield from _no_such_kind(core, adapter, data, spot, also)
        elif other is not None:
            # Told once for the union as a whole, unless a member of the right form tells more.
            value = at(data, other.loc)
            if not (isinstance(value, list | dict) and suits(core, other.union, value)):
                yield Finding(other.loc, _expected(core, other.union, value), other.loc)
        elif kind == "extra_forbidden":
            if not (spot.loc[:-1] == () and spot.loc[-1] in also):
                yield Finding(spot.loc, _unknown_key(core, spot, also), spot.loc, at_key=True)
        elif kind == "missing":
            yield Finding(spot.loc, f"missing; expected {_wanted(core, spot)}", spot.loc[:-1], at_key=len(spot.loc) > 1)
        elif kind.endswith(("_type", "_parsing")) or kind in _ORDER | _SIZE | _FORM:
            message = _expected(core, spot.schema or {"type": "any"}, at(data, spot.loc))
            yield Finding(spot.loc, message + _meaning(core, spot), spot.loc)
        else:
            said = re.sub(r"^(Value error|Assertion failed), ", "", each["msg"])
            yield from _said(said, spot.loc, data)


def _meant(core: Core, choice: Choice, data: Any) -> bool:
    """Whether an error inside a union's member is worth telling: the value has the form it wants."""
    value = at(data, choice.loc)
    return isinstance(value, list | dict) and suits(core, choice.member, value)


def _said(message: str, loc: Loc, data: Any) -> Iterator[Finding]:
    """A validator's own words. Where they begin with the path of a key, each sentence that does goes to its key, with
    what follows up to the next."""
    found: list[tuple[Loc, str]] = []
    for words in message.split("; "):
        sentence = _SENTENCE.fullmatch(words)
        path = (*loc, *_path(sentence[1])) if sentence else ()
        if sentence and at(data, path) is not None:
            found.append((path, sentence[2]))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]}; {words}")
        else:
            found.append((loc, words))
    yield from (Finding(path, said, path) for path, said in found)


def _path(text: str) -> Loc:
    """A location from how people write it: 'classes.test[1]'."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[a-z_]+|\d+", text))


def _no_such_kind(
    core: Core, adapter: TypeAdapter[Any], data: Any, spot: Spot, also: tuple[str, ...]
) -> Iterator[Finding]:
    """A missing or unknown tag of a discriminated union: which there are, and which was most likely meant."""
    union = core.plain(spot.schema or core.root)
    tag, known = union["discriminator"], [str(each) for each in union["choices"]]
    given = at(data, spot.loc)
    found = given.get(tag) if isinstance(given, dict) else None
    named = nearest(found, known) if isinstance(found, str) else None
    attempts = {each: _errors_as(adapter, data, spot.loc, tag, each) for each in ([named] if named else known)}
    fewest = min(len(each) for each in attempts.values())
    fitting = [each for each, errors in attempts.items() if len(errors) == fewest]
    guess = fitting[0] if len(fitting) == 1 else None
    hint = f" Did you mean '{guess}'?" if guess else ""
    loc = (*spot.loc, tag)
    if tag in given:
        yield Finding(loc, f"found {_found(found)}, which is not a {tag}.{hint} Known: {', '.join(known)}", loc)
    else:
        yield Finding(loc, f"missing.{hint} Known: {', '.join(known)}", spot.loc, at_key=bool(spot.loc))
    if named and attempts[named]:
        # Its other errors are told too, so that they need not wait for a second try.
        try:
            adapter.validate_python(_with(data, spot.loc, tag, named))
        except ValidationError as error:
            yield from _findings(core, adapter, data, error, also)


def _errors_as(adapter: TypeAdapter[Any], data: Any, loc: Loc, tag: str, value: str) -> list[Any]:
    try:
        adapter.validate_python(_with(data, loc, tag, value))
    except ValidationError as error:
        return list(error.errors(include_url=False))
    return []


def _with(data: Any, loc: Loc, key: str, value: Any) -> Any:
    """The data with one key of the mapping at `loc` replaced."""
    if not loc:
        return {**data, key: value}
    step, changed = loc[0], data.copy()
    changed[step] = _with(data[step], loc[1:], key, value)
    return changed


def _unknown_key(core: Core, spot: Spot, also: tuple[str, ...]) -> str:
    assert spot.owner is not None
    key, known = str(spot.loc[-1]), list(core.plain(spot.owner)["fields"])
    if len(spot.loc) == 1:
        known += also
    guess = nearest(key, known)
    hint = f" Did you mean '{guess}'?" if guess else ""
    homes = [] if guess else _kinds_with(core, spot.loc)
    if homes:
        hint = f" It belongs to kind{'s' if len(homes) > 1 else ''} {all_of(homes)}."
    return f"unknown key.{hint} Allowed here: {', '.join(known) or 'no keys at all'}"


def _kinds_with(core: Core, loc: Loc) -> list[str]:
    """The tags of the top union under which `loc` is a known key."""
    top = core.plain(core.root)
    if top["type"] != "tagged-union":
        return []
    return [str(tag) for tag, choice in top["choices"].items() if core.knows(choice, loc)]


def _wanted(core: Core, spot: Spot) -> str:
    return describe(core, spot.schema or {"type": "any"}) + _meaning(core, spot)


def _meaning(core: Core, spot: Spot) -> str:
    """The description of the field that an error is about, where the model gives one."""
    cls = core.model(spot.owner) if spot.owner is not None else None
    field = getattr(cls, "model_fields", {}).get(spot.loc[-1]) if spot.loc else None
    return f" ({field.description})" if field is not None and field.description else ""


def _expected(core: Core, schema: Schema, value: Any) -> str:
    wanted, form = describe(core, schema), core.plain(schema)["type"]
    hint = ""
    if form == "str" and isinstance(value, bool | int | float):
        hint = "; put it in quotes"
    if form == "int" and isinstance(value, float) and value.is_integer():
        hint = f"; write {int(value)}"
    if form in {"int", "float", "bool"} and isinstance(value, str) and not isinstance(_unquoted(value), str):
        hint = "; remove the quotes"
    if form == "literal" and isinstance(value, str):
        guess = nearest(value, map(str, core.plain(schema)["expected"]))
        hint = f"; did you mean '{guess}'?" if guess else ""
    return f"found {_found(value)}, expected {wanted}{hint}"


def _unquoted(text: str) -> Any:
    try:
        return scalar(text)
    except Trap:
        return text


def _found(value: Any) -> str:
    """A value in words, with its form: '"five" (text)', 'a list of 3'."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"{json.dumps(value if len(value) <= 60 else value[:57] + '...', ensure_ascii=False)} (text)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, list(value)[:6]))}" if value else "an empty mapping"
    return str(value)


def describe(core: Core, schema: Schema, many: bool = False) -> str:
    """What a schema allows, in words: 'a whole number of at least 1'; `many` gives the plural."""
    plain = core.plain(schema)
    kind = plain["type"]
    words = {
        "int": ("a whole number", "whole numbers"),
        "float": ("a number", "numbers"),
        "str": ("text", "texts"),
        "bool": ("true or false", "true or false"),
        "dict": ("a mapping", "mappings"),
        "model-fields": ("a mapping", "mappings"),
        "tagged-union": ("a mapping", "mappings"),
    }
    if kind in words:
        text = words[kind][many] + _bounds(plain)
    elif kind in {"literal", "enum"}:
        values = plain["expected"] if kind == "literal" else [each.value for each in plain["members"]]
        text = ("one of " if len(values) > 1 else "") + ", ".join(map(str, values))
    elif kind in {"list", "tuple", "set", "frozenset"}:
        text = ("lists" if many else "a list") + _items(core, plain)
    elif kind == "union":
        text = " or ".join(dict.fromkeys(describe(core, each, many) for each in core.members(plain)))
    else:
        text = "a value"
    if kind == "model-fields" and plain["fields"] and not many:
        text += f" with {', '.join(plain['fields'])}"
    return text + (" or null" if core.nullable(schema) else "")


def _bounds(plain: Schema) -> str:
    if "ge" in plain and "le" in plain:
        return f" from {plain['ge']} to {plain['le']}"
    words = {"ge": "of at least", "gt": "greater than", "le": "of at most", "lt": "less than"}
    said = [f"{word} {plain[name]}" for name, word in words.items() if name in plain]
    if plain["type"] == "str" and "pattern" in plain:
        said.append(f"that matches {plain['pattern']}")
    return f" {' and '.join(said)}" if said else ""


def _items(core: Core, plain: Schema) -> str:
    least, most = plain.get("min_length", 0), plain.get("max_length")
    items = plain.get("items_schema") or {"type": "any"}
    many = "values" if isinstance(items, list) or items["type"] == "any" else describe(core, items, many=True)
    if least and least == most:
        return f" of {least} {many}"
    size = f" with at least {least}" if least else ""
    return f" of {many}{size}" + (f"{' and' if size else ' with'} at most {most}" if most is not None else "")
