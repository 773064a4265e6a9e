"""`harness check`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.api import conformance
from harness.check import CHECKS
from harness.cli import main
from harness.testing import tiny_dataset
from tests.helpers import broken_methods as methods


def test_the_command_prints_a_table_and_exits_0_for_a_method_that_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "majority"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("majority on random tasks: 3 ways, 1x28x28 images, label delays 1 and 3, continual")
    for check in CHECKS:
        assert check.name in shown


@pytest.mark.slow
def test_the_command_exits_3_with_the_reason_for_a_method_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(methods.__file__)
    assert main(["check", f"{file}:PairsTooLate", "--protocol", "omniglot_5way_online", "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is False
    (failed,) = [each for each in report["results"] if each["outcome"] == "failed"]
    assert (failed["name"], failed["delay"]) == ("pairing", 3)


@pytest.mark.slow
def test_images_of_the_data_are_shown_where_a_data_root_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(conformance, "load_dataset", lambda name, root, *_, **__: tiny_dataset(name))
    words = ["check", "majority", "--protocol", "omniglot_5way_online"]
    assert main([*words, "--data-root", str(tmp_path)]) == 0
    assert "and on images of omniglot\n" in capsys.readouterr().out
    assert main(words) == 0
    assert "and on images of glyphs\n" in capsys.readouterr().out
    assert main(["check", "majority", "--data-root", str(tmp_path)]) == 2
    assert "--data-root is given without --protocol" in capsys.readouterr().err


def test_the_command_exits_2_for_an_unknown_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "onp"]) == 2
    assert "opn" in capsys.readouterr().err
