"""`harness.results`, `harness.compare`, `harness.verify` and `harness.check`: boards and methods, in one call each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import harness as h
from harness import cli
from tests.helpers.runs import written


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A working directory with a board of generated data, of two methods."""
    monkeypatch.chdir(written(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    for name in ("count", "nearest_pixel"):
        h.run("late.yaml", name, data="stand-in", quiet=True)
    return tmp_path


@pytest.mark.slow
def test_every_row_of_the_boards_is_a_row_of_a_table(here: Path) -> None:
    found = h.results("runs/boards")
    assert len(found) == 2
    assert {record.method for record in found} == {"count", "nearest_pixel"}
    table = found.to_pandas().set_index("method")
    assert table.loc["count", "board"] == "late"
    assert table["rank"].str.rstrip("=").isin(["1", "2"]).all()
    assert (table["accuracy"] >= 0).all()
    assert not found.problems
    assert len(h.results(protocol="late.yaml", data="stand-in")) == 2
    assert len(h.results(protocol="late.yaml", data="real")) == 0
    assert len(h.results("runs/boards", data="real")) == 0


def test_a_comparison_is_that_of_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {record.method: record for record in h.results("runs/boards")}
    found = h.compare("late.yaml", runs["count"], "nearest_pixel")  # the run is on generated data
    assert found.differences == h.compare("late.yaml", "count", "nearest_pixel", data="stand-in").differences
    capsys.readouterr()
    assert cli.main(["compare", "late.yaml", "count", "nearest_pixel", "--data", "stand-in", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.as_json()))
    assert found.difference.metric == "accuracy"
    assert found.to_pandas().loc[0, "difference"] == found.difference.difference[0]


def test_a_run_named_like_a_method_is_compared_as_the_run_that_it_is(here: Path) -> None:
    on: dict[str, Any] = {"data": "stand-in", "quiet": True}
    mine = h.run("late.yaml", "majority", folder="mine/count", **on)
    found = h.compare("late.yaml", mine, "nearest_pixel")
    assert [each.newest.method for each in (found.first, found.second)] == ["majority", "nearest_pixel"]
    assert h.compare("late.yaml", mine.record, "count", data="stand-in").first.newest.method == "majority"
    missing = mine.record.model_copy(update={"run": "nearest_pixel"})
    with pytest.raises(h.UserError, match="the board has no row of run nearest_pixel"):
        h.compare("late.yaml", missing, "count", data="stand-in")


def test_the_folder_of_boards_of_generated_data_passes_for_no_other(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = "runs/boards/stand_in"
    before = {path: path.read_bytes() for path in Path("runs/boards").rglob("*.md")}
    capsys.readouterr()
    for call in (
        lambda: h.results(inner),
        lambda: h.verify("late.yaml", data="stand-in", boards=inner),
        lambda: h.run("late.yaml", "chance", data="stand-in", boards=inner, quiet=True),
    ):
        with pytest.raises(h.UserError, match="where boards of generated data are, inside the folder"):
            call()
    assert cli.main(["board", "--boards", inner]) == 2
    assert "ask for --data stand-in" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["board", "runs/boards"]) == 0
    index = capsys.readouterr().out
    assert cli.main(["board", inner, "--write"]) == 0
    assert capsys.readouterr().out == index
    assert "Stand-in data" in index
    assert {path: path.read_bytes() for path in Path("runs/boards").rglob("*.md")} == before
    Path("empty").mkdir()
    assert cli.main(["board", "empty"]) == 0
    assert "No boards yet" in capsys.readouterr().out


def test_rows_are_verified_by_line_run_or_result(here: Path) -> None:
    again = h.run("late.yaml", "count", data="stand-in", quiet=True, board=False)
    (row,) = h.verify("late.yaml", again, data="stand-in", in_process=True)
    assert (row.line, row.record.method, row.verdict.outcome, row.holds) == (1, "count", "same", True)
    Path("mine/stand_in").mkdir(parents=True)
    Path("mine/stand_in/cifarfs_delay5.jsonl").write_text("")
    with pytest.raises(h.UserError, match="no boards of shipped protocols in mine, but on generated data"):
        h.verify(boards="mine")
    both = h.verify("late.yaml", data="stand-in", in_process=True)
    assert [each.line for each in both] == [1, 2]
    with pytest.raises(h.UserError, match="no row in line 7; rows are in lines: 1, 2"):
        h.verify("late.yaml", 7, data="stand-in")
    with pytest.raises(h.UserError, match="no row of nobody"):
        h.verify("late.yaml", "nobody", data="stand-in")


def test_a_method_is_checked_by_name_or_class() -> None:
    by_name = h.check("count", kinds=["online_few_shot"], delays=[1])
    assert by_name.passed
    assert h.check(h.load_method("count").cls, kinds=["online_few_shot"], delays=[1]) == by_name


def test_a_result_of_several_seeds_is_compared_with_all_of_them_where_its_rows_are(here: Path) -> None:
    places: dict[str, Any] = {"data": "stand-in", "quiet": True, "boards": "mine"}
    three = h.run("late.yaml", "chance", seeds=[0, 1, 2], **places)
    one = h.run("late.yaml", "count", **places)
    found = h.compare("late.yaml", three, one)
    assert [record.seed for record in found.first.records] == [0, 1, 2]
    assert found.differences == h.compare("late.yaml", "chance", "count", data="stand-in", boards="mine").differences
    assert found.difference.first.mean == pytest.approx(three.metrics["accuracy"].mean)


def test_results_are_of_real_and_of_generated_data_where_nothing_else_is_asked(here: Path) -> None:
    both, real, generated = (h.results(data=data) for data in (None, "real", "stand-in"))
    assert {view.stand_in for view in generated.views} == {True}
    assert len(generated) == 2
    assert len(real) > 100, "those that come with the harness"
    assert len(both) == len(real) + len(generated)
