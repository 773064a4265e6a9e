"""Options as recipes, command lines and records hold them, and as constructors take them."""

from __future__ import annotations

import enum
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import cli
from harness.method.interface import Method, Task
from harness.method.options import constructor_arguments, default_options, option_problems, resolved_options
from harness.method.registry import load_method, method_names
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.util.errors import UserError


class Norm(enum.Enum):
    BATCH = "batch"
    LAYER = "layer"


class Typed(Method):
    def __init__(
        self,
        task: Task,
        widths: tuple[int, ...] = (32, 64),
        pairs: list[tuple[int, float]] | None = None,
        norm: Norm = Norm.BATCH,
        start: Path = Path("start"),
        bare: Any = (1, (2, 3)),
        keys: int = 4,
        rate: float = 1.0,
    ) -> None:
        super().__init__(task)


class Computed(Method):
    def __init__(self, task: Task, dtype: torch.dtype = torch.float32, most: float = math.inf) -> None:
        super().__init__(task)


def test_records_hold_plain_data_and_constructors_get_what_they_annotate() -> None:
    given = {"widths": [8, 16], "pairs": [[1, 0.5], [2, 1.5]], "norm": "layer", "start": "there"}
    typed = {"widths": (8, 16), "pairs": [(1, 0.5), (2, 1.5)], "norm": Norm.LAYER, "start": Path("there")}
    rest = {"bare": (1, (2, 3)), "keys": 4, "rate": 1.0}
    assert constructor_arguments(Typed, given) == {**typed, **rest}
    assert constructor_arguments(Typed, typed) == {**typed, **rest}
    plain = resolved_options(Typed, given)
    assert plain == {**given, **rest, "bare": [1, [2, 3]]}
    assert resolved_options(Typed, typed) == plain
    assert json.loads(json.dumps(plain)) == plain
    assert constructor_arguments(Typed, plain) == {**typed, **rest}
    assert default_options(Typed) == resolved_options(Typed, {})


def test_a_default_that_is_given_plainly_is_the_default() -> None:
    assert constructor_arguments(Typed, {"bare": [1, [2, 3]]})["bare"] == (1, (2, 3))
    assert constructor_arguments(Typed, {"bare": [1, [2, 4]]})["bare"] == [1, [2, 4]]
    assert type(constructor_arguments(Typed, {"rate": 1})["rate"]) is float


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widths": [8, "x"]}, "option widths.1: "),
        ({"widths": 8}, "option widths: "),
        ({"norm": "group"}, "option norm: "),
        ({"pairs": [[1]]}, "option pairs.0"),
        ({"keys": True}, "option keys: "),
        ({"width": [8]}, "has no option 'width'. Did you mean 'widths'?"),
    ],
)
def test_another_type_than_annotated_is_a_problem(given: dict[str, Any], message: str) -> None:
    ((name, said),) = option_problems(Typed, given)
    assert name == next(iter(given))
    assert message in said


def test_what_no_record_can_hold_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert constructor_arguments(Computed, {})["dtype"] is torch.float32
    with pytest.raises(UserError, match=r"option dtype is torch.float64, which no recipe and no record can hold"):
        resolved_options(Computed, {"dtype": torch.float64})
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)
    lines = "import math", "from methods.count import Count", "class Mine(Count):"
    body = "    def __init__(self, task, most: float = math.inf) -> None: super().__init__(task)"
    Path("mine.py").write_text("\n".join([*lines, body]))
    assert cli.main(["run", "cifarfs_delay5", "--method", "mine.py:Mine", "--test-episodes", "4"]) == 2
    assert "option most is inf" in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", method_names())
def test_options_of_built_in_methods_come_back_from_their_records(name: str) -> None:
    cls = load_method(name).cls
    plain = resolved_options(cls, {})
    assert resolved_options(cls, json.loads(json.dumps(plain))) == plain == default_options(cls)
