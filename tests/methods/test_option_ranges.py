"""No built-in method takes a number that is out of the range of its option."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

from harness.method.options import option_problems, resolved_options
from harness.method.registry import load_method
from harness.util.errors import UserError
from methods import BUILT_IN

ANY_SIGN = {"forget_bias", "gate_bias", "memory_init", "label_init"}
"""Options that are numbers of either sign: where weights begin."""
IN_THE_CONSTRUCTOR = {"decay", "sharpness", "start_rate", "length", "shifts"}
"""Those that a constructor refuses, for the reason that it gives, with a ValueError."""


def numbers(method: str) -> dict[str, Any]:
    """The options of a method that are numbers, with a default of their own or none: name and annotation."""
    cls = load_method(method).cls
    hints = typing.get_type_hints(cls.__init__)
    names = inspect.signature(cls).parameters
    return {name: hints[name] for name in names if {int, float} & {hints.get(name), *typing.get_args(hints.get(name))}}


@pytest.mark.parametrize("method", BUILT_IN)
def test_negative_numbers_are_refused(method: str) -> None:
    cls = load_method(method).cls
    for name, hint in numbers(method).items():
        if name in ANY_SIGN | IN_THE_CONSTRUCTOR:
            continue
        listed = typing.get_origin(hint) is list or list[int] in typing.get_args(hint)
        value: Any = [-1] if listed else -1 if int in (hint, *typing.get_args(hint)) else -1.0
        problems = dict(option_problems(cls, {name: value}))
        assert " must be " in problems.get(name, ""), (method, name)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("maml", {"test_steps": 0}, "MAML: option test_steps must be at least 1, found 0"),
        ("maml", {"resolution": 0}, "MAML: option resolution must be at least 1, found 0"),
        ("maml", {"inner_lr": -0.1}, "MAML: option inner_lr must be at least 0, found -0.1"),
        ("lstm", {"units": 0}, "LSTM: option units must be at least 1, found 0"),
        ("anml", {"trunk_rate": 0.0}, "ANML: option trunk_rate must be above 0, found 0.0"),
        ("deml", {"steps": 0}, "DEML: option steps must be at least 1, found 0"),
        ("protonet", {"widths": [64, 0, 64, 64]}, "ProtoNet: option widths.1 must be at least 1, found 0"),
        ("norml", {"hidden": [0]}, "NORML: option hidden.0 must be at least 1, found 0"),
    ],
)
def test_the_message_says_what_is_allowed(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        resolved_options(load_method(method).cls, options)
    assert str(refused.value) == said
