"""The command on a record of `harness.run`: it is Python, and does the same run again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import harness as h
from harness.api.command import call_text
from harness.method.registry import load_method
from harness.protocol.load import load_protocol
from harness.testing import tiny_dataset
from harness.util.shipped_files import protocol_files


def again(command: str, **names: Any) -> h.Result:
    found = eval(command, {"harness": h, **names})
    assert isinstance(found, h.Result)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "method", "options"),
    [
        ("late.yaml", "count", {"seeds": [0, 1], "test_episodes": 4}),
        (Path("late.yaml"), "own_bias.py:Bias", {"budget": "smoke", "lr": 0.01, "override": {"batch": 2}}),
        (
            "late.yaml",
            "cl_lstm",
            {"recipe": Path("cl_lstm.yaml"), "budget": "smoke", "options": {"channels": 4, "lstm": 8}, "episodes": 8},
        ),
    ],
)
def test_the_command_of_a_record_does_the_run_again(
    here: Path,
    protocol: Any,
    method: str,
    options: dict[str, Any],
) -> None:
    result = h.run(protocol, method, data="stand-in", board=False, quiet=True, **options)
    repeated = again(result.record.command)
    assert repeated.folders == result.folders
    assert [each.scores for each in repeated.records] == [each.scores for each in result.records]
    assert "quiet" not in result.record.command


def test_the_command_of_a_record_does_not_say_where_it_was_done(here: Path, tmp_path: Path) -> None:
    places: dict[str, Any] = {"out": tmp_path / "mine", "boards": tmp_path / "boards", "cache": tmp_path / "cache"}
    result = h.run("late.yaml", "count", data="stand-in", quiet=True, **places)
    assert result.record.command == "harness.run('late.yaml', 'count', data='stand-in')"
    repeated = again(result.record.command)
    assert [each.scores for each in repeated.records] == [each.scores for each in result.records]


@pytest.mark.parametrize("form", ["mapping", "model", "named", "loaded"])
def test_a_protocol_that_is_no_file_is_written_out(here: Path, form: str) -> None:
    loaded = h.load_protocol("late.yaml")
    given: Any = {
        "mapping": loaded.protocol.model_dump(),
        "model": loaded.protocol,
        "named": h.load_protocol("late.yaml", name="mine"),
        "loaded": loaded,
    }[form]
    result = h.run(given, "count", data="stand-in", board=False, quiet=True)
    assert again(result.record.command).folders == result.folders


def test_what_cannot_be_written_is_named_with_where_it_came_from(here: Path) -> None:
    data = tiny_dataset("omniglot", classes=8, images=10)
    text = call_text(h.run, "late.yaml", load_method("count"), data, {"budget": "quick", "test_episodes": 3})
    assert text == (
        f"harness.run('late.yaml', 'count', data='{data.name}', test_episodes=3)"
        f"  # '{data.name}' is a data set in memory, given to harness.register_dataset"
    )
    own = dataclasses.replace(load_method("count"), target="interactive:Mine", file=Path("cache/Mine-1.py"))
    text = call_text(h.run, "late.yaml", own, "real", {})
    assert text == "harness.run('late.yaml', Mine)  # Mine was defined in a session; its source is in cache/Mine-1.py"


def test_every_shipped_protocol_reads_back_from_its_model() -> None:
    for name in protocol_files():
        protocol = load_protocol(name).protocol
        text = call_text(h.run, protocol, load_method("count"), "real", {})
        (found,) = [eval(text, {"harness": type("", (), {"run": staticmethod(lambda given, _: given)})})]
        assert h.load_protocol(found).protocol.digest == protocol.digest


def test_places_in_the_home_folder_may_be_written_as_the_command_has_them(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(Path("late.yaml").read_text())
    result = h.run(str(tmp_path / "mine.yaml"), "count", data="stand-in", board=False, quiet=True, out="~/kept")
    assert "'~/mine.yaml'" in result.record.command
    assert [each.parent.parent for each in result.folders] == [tmp_path / "kept"]
    assert [each.scores for each in again(result.record.command).records] == [each.scores for each in result.records]


def test_a_board_in_the_home_folder_is_written_and_read_there(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    h.run("late.yaml", "count", data="stand-in", quiet=True, boards="~/boards")
    assert not Path("~").exists()
    assert [*(tmp_path / "boards").rglob("late.jsonl")]
    assert len(h.results(boards="~/boards", protocol="late.yaml", data="stand-in")) == 1
