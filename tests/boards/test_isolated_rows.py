"""Rows whose method was isolated say so, and boards call only them verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness import cli
from harness.boards.columns import ISOLATED, UNCONFINED
from harness.boards.store import append_record
from harness.records.parts import Isolated
from harness.runs.folder import SCORES, read_record, read_scores
from tests.helpers.submissions import BOARD, RUN, finished, published, rewritten, rows, submitted

pytestmark = pytest.mark.usefixtures("tiny_board")


def marked() -> str:
    assert cli.main(["board", "tiny.yaml", "--write"]) == 0
    return BOARD.with_suffix(".md").read_text()


@pytest.mark.slow
def test_a_run_that_is_scored_isolated_has_the_same_scores_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    here = finished("majority", "--out", "here")
    there = finished("majority", "--out", "there", "--isolated")
    fresh = finished("majority", "--out", "fresh", "--fresh-workers")
    assert read_record(here).isolated is None
    found = [read_record(each).isolated for each in (there, fresh)]
    assert [(each.episodes, each.fresh) for each in found if each] == [(12, False), (12, True)]
    for each in (there, fresh):
        for name, values in read_scores(here / SCORES).items():
            assert np.array_equal(values, read_scores(each / SCORES)[name], equal_nan=True)
    assert cli.main([*RUN, "--method", "majority", "--no-board", "--out", "here", "--isolated"]) == 0
    assert "was scored in the harness's own process; --fresh scores it isolated" in capsys.readouterr().err
    assert cli.main([*RUN, "--method", "majority", "--no-board", "--out", "there", "--isolated"]) == 0
    (marks,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("marks")]
    assert "isolated" in marks


def test_only_isolated_rows_are_called_verified(run: Path) -> None:
    record = read_record(run)
    append_record(record, Path("leaderboards"))
    assert "verified" not in marked()
    confined = {"confined": "bubblewrap", "episodes": 12, "fresh": True}
    for how, mark in ((confined, ISOLATED), ({**confined, "confined": None}, UNCONFINED)):
        rewritten(run, isolated=how, seed=record.seed)
        BOARD.unlink()
        append_record(read_record(run), Path("leaderboards"))
        text = marked()
        assert f" {mark}, label delay told" in text
        assert "Only rows marked 'isolated' are verified" in text


def test_the_command_of_a_run_given_again_hides_nothing_that_was_said_of_it(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_record(run)
    isolated = Isolated(confined="bubblewrap", episodes=12, fresh=True)
    published(run, isolated=isolated)
    capsys.readouterr()
    said: list[str] = []
    for less in (record, record.model_copy(update={"marks": [*record.marks, "not checked"]})):
        append_record(less, Path("leaderboards"), said.append)
    assert len(said) == 2
    assert all(f"a row of run {record.run} that says all this, or more" in text for text in said)
    assert [each.isolated for each in rows()] == [isolated]


@pytest.mark.slow
def test_a_submitted_row_says_what_submit_saw_and_not_what_the_run_claims(run: Path) -> None:
    rewritten(run, isolated={"confined": "bubblewrap", "episodes": 12, "fresh": True})
    assert submitted(run) == 0  # in this process
    (row,) = rows()
    assert row.isolated is None
    BOARD.unlink()
    assert submitted(run, where="") == 0
    (row,) = rows()
    assert row.isolated is not None
    assert (row.isolated.episodes, row.isolated.fresh) == (12, True)
