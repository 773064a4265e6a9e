"""`harness.sweep`: the grid of the command line, from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import harness as h

GRID = """\
data: stand-in
budgets: [smoke]
runs:
  - {protocols: [late.yaml], methods: [copy_last, count]}
"""


@pytest.fixture
def grid(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep file beside the tiny protocols; runs are processes, which must find this package too."""
    root = str(Path(h.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    Path("grid.yaml").write_text(GRID)
    return Path("grid.yaml")


@pytest.mark.slow
def test_a_sweep_runs_what_is_missing_and_gives_its_records(grid: Path, cache: Path) -> None:
    places: dict[str, Any] = {"cache": cache, "boards": "boards", "jobs": 1}
    planned = h.sweep(grid, dry_run=True, **places)
    assert [each.state for each in planned] == ["waiting", "waiting"]
    assert not planned.done
    assert not Path("runs").exists()

    result = h.sweep(grid, **places)
    assert result.done, result.to_pandas().to_string()
    assert repr(result) == "2 runs: 2 done; .to_pandas() is a table of them"
    assert result._repr_html_().count("<td>done</td>") == 2
    alone = h.run("late.yaml", "count", data="stand-in", budget="smoke", cache=cache, out="alone", board=False)
    record = result.runs[1].record
    assert record is not None
    assert record.metrics == alone.record.metrics
    table = result.to_pandas()
    assert table["state"].tolist() == ["done", "done"]
    assert table["accuracy"].tolist()[1] == record.metrics["accuracy"].mean

    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("record.json")}
    again = h.sweep(grid, **places)
    assert again.done
    assert [each.record and each.record.run for each in again] == [each.record and each.record.run for each in result]
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("record.json")} == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"jobs": 0}, "jobs is 0; it must be more than 0"),
        ({"seconds": -1.0}, "seconds is -1.0; it must be more than 0"),
        ({"engine": "rey"}, "there is no engine 'rey'"),
        ({"slurm": {"partition": "gpu"}}, "options of Slurm"),
    ],
)
def test_what_cannot_be_is_refused(grid: Path, call: dict[str, Any], message: str) -> None:
    with pytest.raises(h.UserError, match=message):
        h.sweep(grid, **call)
    assert not Path("runs").exists()


def test_a_sweep_that_is_not_there_is_refused_with_the_names_of_those_that_are() -> None:
    with pytest.raises(h.UserError, match="Did you mean 'norml_table2'"):
        h.sweep("norml_tabel2")


def test_a_search_that_has_not_ended_is_not_done(here: Path) -> None:
    Path("search.yaml").write_text(
        "data: stand-in\nbudgets: [smoke]\nsearch:\n"
        "  - {protocols: [late.yaml], methods: [cl_lstm], recipe: cl_lstm.yaml, trials: 2,\n"
        "     ranges: {options: {lstm: {type: int, low: 4, high: 8}}}}\n"
    )
    planned = h.sweep("search.yaml", dry_run=True)
    assert not planned.done
    assert "0 of 1 searches done" in repr(planned)
