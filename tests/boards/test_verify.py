"""Verifying rows: scored again, and held against their scores, weights and method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import harness as h
from harness import cli
from harness.boards.artifacts import keep, weights_of
from harness.boards.store import append_record
from harness.runs.folder import read_record
from methods.opn import OPN
from tests.helpers.submissions import (
    BOARD,
    HERE,
    PROTOCOL,
    at,
    edit_row,
    finished,
    other_weights,
    published,
    submitted,
    verify,
)

pytestmark = pytest.mark.usefixtures("tiny_board")


@pytest.mark.slow
def test_a_built_in_method_needs_no_naming_and_its_row_verifies(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted(run) == 0
    assert verify("--row", "1") == 0
    assert "over 12 episodes, every score the same to the last bit" in capsys.readouterr().out
    assert verify("--row", "1", "--episodes", "5") == 0
    assert "over 5 episodes, every score the same to the last bit" in capsys.readouterr().out
    assert verify("--list") == 0
    assert "from its weights, kept in the folder checkpoints" in capsys.readouterr().out
    assert verify("--row", "2") == 2
    assert "rows are in lines: 1" in capsys.readouterr().err


@pytest.mark.parametrize("where", [HERE, ""], ids=["in this process", "isolated"])
@pytest.mark.parametrize("named", ["own.py:Own", "count"])
def test_the_method_that_is_named_is_that_of_rows_that_need_it(
    named: str, where: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A board of one's own method and of baselines is verified by one command."""
    assert submitted(run) == 0
    (tmp_path / "own.py").write_text("from methods.opn import OPN\n\n\nclass Own(OPN):\n    pass\n")
    assert verify("--row", "1", "--method", named, where=where) == 0
    assert "every score the same to the last bit" in capsys.readouterr().out


def test_a_method_that_is_not_there_is_refused_before_anything_is_scored(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submitted(run) == 0
    capsys.readouterr()
    assert verify("--method", "nonsense") == 2
    said = capsys.readouterr()
    assert "unknown method 'nonsense'" in said.err
    assert said.out == ""


def _without_weights(content: dict[str, Any]) -> None:
    content.update(checkpoint=None, kept="")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("metrics", "accuracy", "mean", value=99.9), "accuracy is 99.9000"),
        (at("metrics", "accuracy", "interval", value=0.1), "accuracy is"),
        (at("metrics", "accuracy@shot=9", value={"mean": 99.0, "interval": 0.1, "episodes": 12}), "is not a metric"),
        (lambda row: row["metrics"].pop("accuracy@shot=1"), "accuracy@shot=1 is missing"),
        (at("curves", "by_shot", value=[99.0, 99.0]), "the curve 'by_shot' is another"),
        (at("curves", value={}), "the curve"),
        (at("curves", "by_luck", value=[99.0]), "the curve 'by_luck' is not one"),
        (at("marks", value=[]), "marks: [] in the record"),
        (at("train_episodes", value=10**7), "training episodes: 10000000 in the record"),
        (at("cost", "parameters", value=3), "parameters: 3 in the record"),
        (at("cost", "state_bytes", value=8), "state_bytes: 8 in the record"),
        (at("cost", "gflop_per_step", value=0.0), "gflop_per_step: 0.0 in the record"),
        (at("seed", value=7), "seed: 7 in the record, 0 in its weights"),
        (at("budget", value="full"), "budget: full in the record, smoke in its weights"),
        (at("recipe_hash", value="ab" * 32), "recipe_hash"),
        (_without_weights, "the method has parameters"),
        (at("options", "channels", value=2**20), "parameters:"),
        (at("test_episodes", value=10**9), "test episodes: 1000000000 in the record, of 12"),
        (at("method_version", value=2), "the row is of version 2 of opn; this code is version 1"),
    ],
)
def test_a_row_that_was_edited_does_not_verify(
    change: Any, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(run)
    edit_row(change)
    assert verify("--row", "1") == 3
    assert message in capsys.readouterr().out


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("broken"), SystemExit(0), KeyError("scores")])
def test_whatever_a_row_makes_its_method_raise_is_a_verdict(
    error: BaseException, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    published(run)
    monkeypatch.setattr("harness.boards.verify.rescored", fail)
    assert verify() == 3
    assert f"not re-scored: {type(error).__name__}" in capsys.readouterr().out


def test_a_row_whose_method_gives_no_answers_fails(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole board too: where rows need a method that is not named, it does not."""
    published(run)
    monkeypatch.setattr(OPN, "predict", lambda _, state, x: (torch.zeros(3), state))
    assert verify() == 3
    assert "not re-scored: OPN.predict: the answer has shape [3]" in capsys.readouterr().out


def test_a_line_that_was_tampered_with_is_no_row_and_fails_its_board(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = published(run, kept=""), published(run, kept="", run="other")
    BOARD.write_text(BOARD.read_text().replace('"mean":', '"mean":1', 1))
    capsys.readouterr()
    assert verify("--json") == 3
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["run"], good["row"], bad["file"], bad["row"]) == (second.run, 2, "tiny.jsonl", 1)
    assert (bad["outcome"], bad["failed"]) == ("unreadable", True)
    assert "changed after it was written" in bad["message"]
    assert verify("--list") == 3
    assert verify("--list", "--row", "2") == 0, "it was not asked for"
    assert verify("--list", "--row", "1") == 2
    found = h.verify("tiny.yaml", in_process=True)
    assert ([row.line for row in found], found.holds) == ([2], False)
    assert found.problems == ("tiny.jsonl:1: sha256 does not fit: the line was changed after it was written",)
    assert h.verify("tiny.yaml", 2, in_process=True).problems == ()
    assert first.run not in repr(found)


def test_a_board_without_a_row_that_can_be_read_does_not_end_the_others(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(run)
    board = Path("leaderboards/omniglot_delay2.jsonl")
    for text, code in (("", 0), ("not a row\n", 3)):
        board.write_text(text)
        assert cli.main(["verify", "--list"]) == code
        found = h.verify(in_process=True)
        assert (len(found), len(found.problems)) == (0, int(bool(text)))
    assert cli.main(["verify", "omniglot_delay2", "--list"]) == 3
    board.write_text("")
    capsys.readouterr()
    assert cli.main(["verify", "omniglot_delay2", "--list"]) == 2
    assert "has no row that can be read" in capsys.readouterr().err


def test_a_row_without_kept_weights_is_held_against_its_kept_scores(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(run, kept="")
    assert verify("--row", "1") == 3
    assert "its numbers are those of its kept scores" in capsys.readouterr().out
    edit_row(at("metrics", "accuracy", "mean", value=99.9))
    assert verify() == 3
    assert "differs: the row says something else" in capsys.readouterr().out


def test_a_row_whose_weights_do_not_give_its_scores_is_found_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other_weights(run, coherent=True)
    record = keep(read_record(run), run, Path("leaderboards"))
    append_record(record, Path("leaderboards"))
    assert verify() == 3
    assert "differs: accuracy" in capsys.readouterr().out
    kept = weights_of(record, Path("leaderboards"))
    assert kept is not None
    kept.write_bytes(kept.read_bytes()[:-8] + b"changed!")
    assert verify("--row", "1") == 3
    assert "damaged: its SHA-256 is not its name" in capsys.readouterr().out
    kept.unlink()
    for words in ([], ["--row", "1"]):
        assert verify(*words) == 3, "what the row says that it keeps is not there"
        assert "is missing, where the row says that it is kept" in capsys.readouterr().out
    assert verify("--list") == 0
    assert "its weights are missing from the folder checkpoints; make it again with: " in capsys.readouterr().out


def test_a_row_that_cannot_be_scored_again_is_no_failure_of_a_whole_board(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(run, kept="")
    for words, code in (([], 0), (["--row", "1"], 3)):
        assert verify(*words) == code
        assert "its weights are not kept" in capsys.readouterr().out


def test_a_row_without_kept_weights_says_how_to_make_it_again_and_compares_that(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_record(run)
    append_record(record, Path("leaderboards"))
    assert verify("--row", "1") == 3
    assert f"make it again with: {record.command}" in capsys.readouterr().out
    assert verify("--row", "1", "--boards", "leaderboards") == 3
    assert "and compare: harness verify tiny.yaml --row 1 --boards leaderboards --run RUN" in capsys.readouterr().out
    again = finished("opn", "--out", "again")
    assert verify("--row", "1", "--run", str(again)) == 0
    assert "every mean the same" in capsys.readouterr().out
    other = finished("opn", "--seed", "3")
    assert verify("--row", "1", "--run", str(other)) == 3
    assert "it differs in seed" in capsys.readouterr().out
    append_record(record.model_copy(update={"init": "e" * 64, "init_episodes": 9}), Path("leaderboards"))
    assert verify("--row", "2", "--boards", "leaderboards", "--run", str(again)) == 3
    assert "it differs in init" in capsys.readouterr().out


@pytest.mark.slow
def test_a_changed_protocol_is_told_apart_from_a_changed_row(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted(run) == 0
    Path("tiny.yaml").write_text(PROTOCOL.replace("presentations: 3", "presentations: 4"))
    assert verify("--row", "1") == 3
    assert "the protocol has changed since" in capsys.readouterr().out
