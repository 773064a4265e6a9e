"""Options of a method, the arguments of its constructor: plain data in recipes and records, typed values in Python."""

from __future__ import annotations

import enum
import inspect
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.canonical import canonical_json
from harness.util.errors import UserError, nearest
from harness.util.option_names import option

if TYPE_CHECKING:
    from pydantic import BaseModel

    from harness.method.interface import Method

_PLAIN = "numbers, texts, true, false, null, and lists and mappings of these"


class _NotPlain(Exception):
    """A value that JSON does not hold."""


def default_options(cls: type[Method]) -> dict[str, Any]:
    """Option name to the constructor's default, as JSON holds it (lists for tuples); options without one are absent.

    Raises UserError for a default that JSON does not hold.
    """
    return {
        name: _recorded(cls, name, each.default)
        for name, each in _parameters(cls).items()
        if each.default is not inspect.Parameter.empty
    }


def resolved_options(cls: type[Method], given: dict[str, Any]) -> dict[str, Any]:
    """All options of a method, as JSON holds them: the constructor's defaults, replaced by those given.

    Raises UserError for an unknown option (nearest name), a value of another type than annotated or out of its range
    (`option_types`), a missing one, or a value that JSON does not hold, which no record could say.
    """
    return {name: _recorded(cls, name, value) for name, value in constructor_arguments(cls, given).items()}


def constructor_arguments(cls: type[Method], given: dict[str, Any]) -> dict[str, Any]:
    """All options of a method, as its constructor takes them: a tuple for a list where one is annotated, and so on.

    Raises UserError for an unknown option (nearest name), a value of another type than annotated or out of its range,
    or a missing one.
    """
    values, problems = _checked(cls, given)
    if problems:
        raise UserError("; ".join(message for _, message in problems))
    return values


def option_problems(cls: type[Method], given: dict[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with each of the given options: its name, and why a method of this class does not take it."""
    return [(name, message) for name, message in _checked(cls, given)[1] if name in given]


def _parameters(cls: type[Method]) -> dict[str, inspect.Parameter]:
    return {
        name: each
        for name, each in inspect.signature(cls).parameters.items()
        if name not in {"self", "task"} and each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
    }


def _checked(cls: type[Method], given: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """All options with their values, unless there are problems: names of options, and what is wrong with each."""
    from pydantic import ConfigDict, ValidationError, create_model

    known = _parameters(cls)
    problems = [(name, _no_option(cls, name, list(known))) for name in given if name not in known]
    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if each.default is inspect.Parameter.empty else each.default)
        for name, each in known.items()
    }
    model = create_model("Options", __config__=ConfigDict(strict=True, arbitrary_types_allowed=True), **fields)
    # A default that is given is left to be the default, which need not be plain data.
    own = {name: each for name, each in given.items() if name in known and not _same(each, known[name].default)}
    found: BaseModel
    try:
        found = model(**own)
    except ValidationError as error:
        wrong = error.errors()
        try:
            found = _from_plain(model, own)
        except ValidationError as plainly:
            # Of a list for a tuple, this one says which of its items is wrong.
            wrong = plainly.errors() if any(each["type"] == "tuple_type" for each in wrong) else wrong
        except _NotPlain:
            pass
        else:
            wrong = []
        for each in wrong:
            where = ".".join(map(str, each["loc"]))
            message = f"{cls.__name__}: option {where}{_required(each)}, found {each['input']!r}"
            if each["type"] == "missing":
                message = f"{cls.__name__}: option {where} has no default; give it a value with {option('set')}"
            problems.append((str(each["loc"][0]), message))
        if wrong:
            return {}, problems
    # Not dict(found): an option may have the name of a method of its class, such as "keys".
    return {name: found.__dict__[name] for name in known}, problems


def _required(problem: Mapping[str, Any]) -> str:
    """What a value would have to be, from an error of pydantic's: of a range (`option_types`), or of a type."""
    limits = problem.get("ctx", {})
    if problem["type"] == "greater_than_equal":
        return f" must be at least {limits['ge']:g}"
    if problem["type"] == "greater_than":
        return f" must be above {limits['gt']:g}"
    return f": {problem['msg']}"


def _from_plain(model: type[BaseModel], given: dict[str, Any]) -> BaseModel:
    """The options read as JSON is, in which a tuple is a list, and a member of an enumeration its value."""
    return model.model_validate_json(canonical_json({name: _plain(each) for name, each in given.items()}))


def _same(given: Any, default: Any) -> bool:
    """Whether a value, which may be plain data, is a default; whole numbers and floats are told apart."""
    try:
        return canonical_json(_plain(given)) == canonical_json(_plain(default))
    except _NotPlain:
        return False


def _recorded(cls: type[Method], name: str, value: Any) -> Any:
    try:
        return _plain(value)
    except _NotPlain:
        raise UserError(
            f"{cls.__name__}: option {name} is {value!r}, which no recipe and no record can hold; options are {_PLAIN}"
        ) from None


def _plain(value: Any) -> Any:
    """A value as JSON holds it: lists for tuples, values for members of enumerations, texts for paths."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _plain(each) for name, each in value.items()}
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise _NotPlain


def _no_option(cls: type[Method], name: str, known: list[str]) -> str:
    guess = nearest(name, known)
    hint = f" Did you mean '{guess}'?" if guess else ""
    return f"{cls.__name__} has no option '{name}'.{hint} It has: {', '.join(known) or 'no options'}."


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """Options from the `name=value` texts of --set; values are read as in a recipe (1e-3, null, text, [1, 2]).

    Raises UserError for what is no such text, and for a name that is given twice.
    """
    from harness.yaml_files.scalars import Trap, value

    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = (each.strip() for each in pair.partition("="))
        if not equals or not key:
            raise UserError(f"--set is '{pair}'; write it as NAME=VALUE")
        if key in options:
            raise UserError(f"--set: '{key}' is given twice")
        try:
            options[key] = value(text)
        except Trap as trap:
            raise UserError(f"--set {key}: {trap}") from None
    return options
