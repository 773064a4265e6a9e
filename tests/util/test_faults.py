"""Errors of a user's code: told in a few lines that name its places; those of the harness keep their traceback."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from harness import cli
from harness.cli import listing
from harness.method.interface import Task
from harness.util.faults import in_a_line, told
from methods.csn import CSN

CODE = """\
import json

def inner(text):
    return json.loads(text)

def outer(text):
    return inner(text)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    found = ModuleType("mine")
    exec(compile(CODE, str(tmp_path / "mine.py"), "exec"), found.__dict__)
    return found


def test_the_places_in_code_of_ones_own_are_named_and_no_others(module: ModuleType) -> None:
    try:
        module.outer("{")
    except ValueError as error:
        said = told(error)
    assert said is not None
    first, *places = said.splitlines()
    assert first.startswith("json.decoder.JSONDecodeError: ")
    assert places[-2:] == [
        "  at mine.py:7, in outer: return inner(text)",
        "  at mine.py:4, in inner: return json.loads(text)",
    ]
    assert "decoder.py" not in said


def _raised(text: str) -> Exception:
    try:
        json.loads(text)
    except ValueError as error:
        return error
    raise AssertionError("it was read")


def test_an_error_in_which_no_such_code_took_part_has_none() -> None:
    error = _raised("{")
    assert error.__traceback__ is not None
    assert told(error.with_traceback(error.__traceback__.tb_next)) is None  # without the frame of this test


def test_a_line_names_the_innermost_place_in_code_of_ones_own(module: ModuleType) -> None:
    with pytest.raises(json.JSONDecodeError) as raised:
        module.outer("{")
    said = in_a_line(raised.value, during="predict")
    assert said.startswith("raised JSONDecodeError in predict: Expecting property name")
    assert said.endswith(" (mine.py, line 4, in inner)")
    assert in_a_line(KeyError("x")) == "raised KeyError: 'x'"
    assert in_a_line(ValueError()) == "raised ValueError: no message"


def test_a_line_names_a_place_in_a_method_of_the_harness_where_no_other_took_part() -> None:
    with pytest.raises(ValueError, match="shifts is one of") as raised:
        CSN(Task(3, (1, 16, 16), "delayed_label", 1), shifts=9)
    error, trace = raised.value, raised.value.__traceback__
    assert trace is not None
    assert in_a_line(error).endswith(
        "in test_a_line_names_a_place_in_a_method_of_the_harness_where_no_other_took_part)"
    )
    assert " (csn.py, line " in in_a_line(error.with_traceback(trace.tb_next))


def test_a_command_tells_them_so_and_shows_the_rest_when_asked(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listing, "execute", lambda _: module.outer("{"))
    assert cli.main(["list"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("harness: error: json.decoder.JSONDecodeError: ")
    assert "at mine.py:4, in inner" in error
    assert error.endswith("(--debug shows the traceback)\n")
    with pytest.raises(ValueError, match="Expecting"):
        cli.main(["--debug", "list"])


def test_a_fault_of_the_harness_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "execute", json.loads)
    with pytest.raises(TypeError):
        cli.main(["list"])
