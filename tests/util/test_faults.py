"""Errors of a user's code: told in a few lines that name its places; those of the harness keep their traceback."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from harness import cli
from harness.cli import listing
from harness.util.faults import told

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
