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


@pytest.mark.slow
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
    machine = ["--data", "stand-in", "--cache", str(tmp_path), "--device", "cpu", "--threads", "1"]
    where = [*machine, "--test-episodes", "4", "--no-board"]
    monkeypatch.setattr("sys.argv", ["harness", "run", *words, *where])
    assert cli.main(["run", *words, *where]) == 0
    (folder,) = (tmp_path / "runs" / "omniglot_5way_online").glob("protonet-smoke-*")
    record, noted = (json.loads((folder / name).read_text()) for name in ("record.json", "run.json"))
    assert record["recipe_changes"] == noted["identity"]["recipe_changes"] == {"lr": 0.01, "all.batch": 3}
    assert record["recipe_hash"] == found["recipe_hash"]
    assert set(found["marks"]) <= set(record["marks"])
    assert "--lr 0.01 --override all.batch=3" in record["command"]
    assert set(found["marks"]) <= set(load_tensors(folder / "weights.safetensors")[1]["marks"])

    capsys.readouterr()
    assert cli.main(["recipe", *words, *machine, "--json"]) == 0
    time = json.loads(capsys.readouterr().out)["time"]
    assert time["source"] == f"recorded by runs/omniglot_5way_online/{folder.name}"
    assert time["training"] <= record["train_seconds"]
    assert cli.main(["run", *words, *where, "--dry-run", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["expected time"]
    assert (expected["source"], expected["training"]) == (time["source"], time["training"])
    assert cli.main(["recipe", *words, *machine[:-1], "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["time"] is None


@pytest.mark.slow
def test_the_time_of_a_run_can_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "recipe",
        "omniglot_5way_online",
        "--method",
        "protonet",
        "--budget",
        "smoke",
        "--time-it",
        "--threads",
        "1",
    ]
    assert cli.main([*words, "--data", "stand-in", "--cache", str(tmp_path), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "(measured now, 2 s a stage)" in printed.out
    assert "harness: timing stage 'classes'" in printed.err


def test_what_has_no_parameters_is_not_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipe", "omniglot_5way_online", "--method", "chance"]) == 0
    assert "nothing is trained: the method has no parameters" in capsys.readouterr().out


def test_options_that_no_method_can_be_built_with_are_named_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("method: transformer\nparts:\n  - quick:\n      options: {width: 7, heads: 2}\n")
    assert cli.main(["recipe", "omniglot_5way_online", "--method", "transformer", "--recipe", str(path)]) == 2
    assert f"options of the recipe: width=7 ({path}:4:24), heads=2 ({path}:4:34)" in capsys.readouterr().err
