"""`harness recipe`: what a recipe comes to, and where that stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import cli


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
        ("method: opn\nparts: [{smoke: {}}]\n", "has no budget 'quick'; it has smoke"),
    ):
        path.write_text(text)
        assert cli.main(["recipe", "omniglot_5way_online", "--method", "opn", "--recipe", str(path)]) == 2
        assert said in capsys.readouterr().err
