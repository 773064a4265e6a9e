"""Arguments of the public API, held against their annotations before anything is done."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

import numpy as np

from harness.util.errors import UserError
from harness.util.shown_text import in_line

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST = 80
"""Characters of a value that an error shows."""

_WORDS = {
    "ProtocolLike": "a shipped protocol's name, a YAML file, a mapping, a model or a loaded protocol",
    "MethodLike": "a method's name, 'file.py:Class', a class derived from harness.Method or an instance of one",
    "Result": "a harness.Result",
    "DataLike": "'real', 'stand-in', a data set's name, a mapping or a harness.Dataset",
    "EntryLike": "a method's name, a record or a result",
    "Method": "an instance of a method, as harness.build_method gives it",
    "Precision": "'fp32', 'tf32' or 'bf16'",
    "str": "text",
    "Path": "a path",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "Mapping[str, Any]": "a mapping",
}
"""What annotations say, in words."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """A function that raises UserError for an argument that is not what its annotation says.

    Values are passed on as they were given, but for NumPy's numbers, which become Python's: no iterator is read.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        bound = signature.bind(*args, **named)
        for name, given in bound.arguments.items():
            parameter = signature.parameters[name]
            value = bound.arguments[name] = _plain(given)
            if value is not parameter.default and not _fits(value, _hints(function)[name]):
                text = in_line(repr(value))
                text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
                raise UserError(f"{name} is {text}; expected {_expected(str(parameter.annotation))}")
        return function(*bound.args, **bound.kwargs)

    return call


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    import torch  # named in annotations of modules that do not import it

    return typing.get_type_hints(function, localns={"torch": torch})


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is typing.Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is type:
        return inspect.isclass(value) and issubclass(value, inner[0])
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, origin) and all(_fits(key, inner[0]) for key in value)
    if origin is not None and issubclass(origin, Iterable):
        held = value if isinstance(value, list | tuple) else ()  # a generator can be read once
        return isinstance(value, origin) and not isinstance(value, str) and all(_fits(each, inner[0]) for each in held)
    if hint in (int, float):  # NumPy's numbers too
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return isinstance(value, hint)


def _expected(annotation: str) -> str:
    """An annotation in words, as 'a number or None'."""
    words = []
    for each in annotation.split(" | "):
        several = re.fullmatch(r"(?:Iterable|Sequence)\[(\w+)\]", each)
        choice = re.fullmatch(r"Literal\[(.+)\]", each)
        if several:
            words.append(f"several, each {_WORDS.get(several[1], f'a harness.{several[1]}')}")
        elif choice:
            words += choice[1].split(", ")
        else:
            words.append(_WORDS.get(each, each))
    return " or ".join(words)
