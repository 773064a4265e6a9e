"""`harness recipe`: what a recipe comes to, and where that stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import cli
from harness.util.tensor_files import load_tensors


def test_it_says_what_is_trained_and_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipe", "omniglot_5way_online", "--method", "cl_lstm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [stage["objective"] for stage in found["stages"]][:2] == ["classes", "head"]
    assert "label delay 2 is later than the protocol's 1" in {each["reason"] for each in found["left_out"]}
    assert cli.main(["recipe", "omniglot_5way_online", "--method", "cl_lstm"]) == 0
    said = capsys.readouterr().out
    assert found["recipe_hash"][:12] in said
    assert f"[{found['stages'][0]['place']}]" in said


def test_a_recipe_of_another_method_or_with_wrong_options_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    for text, said in (
        ("method: lstm\nparts: [{quick: {}}]\n", "mine.yaml:1:9: method: this is a recipe of 'lstm', not of 'opn'"),
        ("method: opn\nparts:\n  - quick:\n      options:\n        chanels: 3\n", "mine.yaml:5:18: "),
        (
            "method: opn\nparts: [{full: {}}]\n",
            "mine.yaml:2:9: parts[0]: this part of the recipe has no budget 'quick'",
        ),
    ):
        path.write_text(text)
        assert cli.main(["recipe", "omniglot_5way_online", "--method", "opn", "--recipe", str(path)]) == 2
        assert said in capsys.readouterr().err


def test_a_budget_that_is_left_out_is_replaced_by_the_next_smaller_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("method: opn\nparts: [{smoke: {batch: 3}, quick: {batch: 5}}]\n")
    words = ["recipe", "omniglot_5way_online", "--method", "opn", "--recipe", str(path), "--json"]
    for requested, used, batch in (("full", "quick", 5), ("day", "quick", 5), ("smoke", "smoke", 3)):
        assert cli.main([*words, "--budget", requested]) == 0
        printed = capsys.readouterr()
        found = json.loads(printed.out)
        assert (found["budget"], found["batch"]) == (used, batch)
        assert (f"has no budget '{requested}' here; its next smaller, '{used}', is used" in printed.err) is (
            requested != used
        )


def test_changes_are_shown_and_go_onto_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Marked, in the record, in the identity of the run and in its weights; the record's command repeats the run."""
    monkeypatch.chdir(tmp_path)
    words = ["omniglot_5way_online", "--method", "protonet", "--budget", "smoke", "--lr", "0.01"]
    words += ["--override", "all.batch=3"]
    assert cli.main(["recipe", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["marks"][-2:] == ["recipe changed: all.batch=3", "recipe changed: lr=0.01"]
    where = ["--data", "stand-in", "--test-episodes", "4", "--no-board", "--cache", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", ["harness", "run", *words, *where])
    assert cli.main(["run", *words, *where]) == 0
    (folder,) = (tmp_path / "runs" / "omniglot_5way_online").glob("protonet-smoke-*")
    record, noted = (json.loads((folder / name).read_text()) for name in ("record.json", "run.json"))
    assert record["recipe_changes"] == noted["identity"]["recipe_changes"] == {"lr": 0.01, "all.batch": 3}
    assert record["recipe_hash"] == found["recipe_hash"]
    assert set(found["marks"]) <= set(record["marks"])
    assert "--lr 0.01 --override all.batch=3" in record["command"]
    assert set(found["marks"]) <= set(load_tensors(folder / "weights.safetensors")[1]["marks"])
