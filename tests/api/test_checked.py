"""Arguments that are not what their annotation says: a sentence from every call, before anything is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness as h
from harness.api.checked import checked

P = "cifarfs_delay5"


@pytest.mark.parametrize(
    ("name", "given", "named", "message"),
    [
        ("run", (P, "count"), {"data": 5}, "data is 5; expected 'real', 'stand-in', a data set's name"),
        ("run", (P, "count"), {"callbacks": [print]}, "expected several, each a harness.Callback"),
        ("run", (P, "count"), {"init": 5}, "init is 5; expected text or a path or a harness.Result or None"),
        ("run", (P, "count"), {"options": 5}, "options is 5; expected a mapping or None"),
        ("run", (P, "count"), {"options": {5: 5}}, "expected a mapping or None"),
        ("run", (P, "count"), {"seeds": "a"}, "seeds is 'a'; expected a whole number or several"),
        ("run", (P, "count"), {"seeds": iter("a")}, "a seed is a whole number"),
        ("run", (P, "count"), {"precision": "fp8"}, "precision is 'fp8'; expected 'fp32', 'tf32' or 'bf16'"),
        ("run", (P, "count"), {"lr": "x"}, "lr is 'x'; expected a number or None"),
        ("run", (P, "count"), {"device": 0}, "expected text or torch.device"),
        ("run", (P, lambda: 0), {}, "method is <function"),
        ("run", (5, "count"), {}, "protocol is 5; expected a shipped protocol's name"),
        ("evaluate", ("count", P), {}, "method is 'count'; expected an instance of a method"),
        ("build_method", ("count", P, ["a"]), {}, r"options is \['a'\]; expected a mapping or None"),
        ("task_for", ("count", 5), {}, "protocol is 5"),
        ("check", ("count",), {"kinds": "online_few_shot"}, "kinds is 'online_few_shot'; expected several"),
        ("compare", (P, "a", 3), {}, "second is 3; expected a method's name, a record or a result"),
        ("verify", (P,), {"rows": 1.5}, "rows is 1.5"),
        ("verify", (P,), {"data": "foo"}, "data is 'foo'; expected 'real' or 'stand-in'"),
        ("results", (), {"data": "foo"}, "data is 'foo'; expected 'real' or 'stand-in' or None"),
        ("sweep", (5,), {}, "file is 5; expected text or a path"),
        ("episodes", (P,), {"batch": "x"}, "batch is 'x'; expected a whole number"),
        ("load_protocol", (None,), {}, "protocol is None"),
        ("load_method", (5,), {}, "method is 5"),
    ],
)
def test_what_is_of_no_use_is_said(name: str, given: Any, named: Any, message: str) -> None:
    with pytest.raises(h.UserError, match=message):
        getattr(h, name)(*given, **named)


def test_values_are_passed_on_as_they_are() -> None:
    @checked
    def function(numbers: Any, *, path: str | Path | None = None, rate: float = 0.5) -> Any:
        return numbers, path, rate

    numbers: Iterator[int] = iter([1, 2])
    found = function(numbers, path=Path("a"), rate=1)
    assert found == (numbers, Path("a"), 1)
    assert [*found[0]] == [1, 2]
    number: Any = np.float32(0.5)
    (values, _, rate) = function({"width": np.int64(3)}, rate=number)
    assert (type(values["width"]), type(rate)) == (int, float)
    with pytest.raises(TypeError):
        function()  # type: ignore[call-arg]


def test_a_method_built_for_other_episodes_is_not_scored() -> None:
    method = h.build_method("cl_lstm", P, data="stand-in", device=torch.device("cpu"))
    with pytest.raises(h.UserError, match=r"built for other episodes than the protocol's: image_shape"):
        h.evaluate(method, "omniglot_5way_online", episodes=2, data="stand-in")
    with pytest.raises(h.UserError, match=r"built for other episodes than the protocol's: image_shape"):
        h.run("omniglot_5way_online", method, data="stand-in")
    with pytest.raises(h.UserError, match=r"built with channels=64 and not 3; leave out options, or build it so"):
        h.run(P, method, options={"channels": 3}, data="stand-in")
    assert h.evaluate(method, P, episodes=2, data="stand-in")["accuracy"].mean >= 0
