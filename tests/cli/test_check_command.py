"""`harness check`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.check import CHECKS
from harness.cli import main
from tests.helpers import broken_methods as methods


def test_the_command_prints_a_table_and_exits_0_for_a_method_that_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "majority"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("majority on random tasks: 3 ways, 1x28x28 images, label delays 1 and 3, continual")
    for check in CHECKS:
        assert check.name in shown


def test_the_command_exits_3_with_the_reason_for_a_method_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(methods.__file__)
    assert main(["check", f"{file}:PairsTooLate", "--protocol", "omniglot_5way_online", "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is False
    (failed,) = [each for each in report["results"] if each["outcome"] == "failed"]
    assert (failed["name"], failed["delay"]) == ("pairing", 3)


def test_the_command_exits_2_for_an_unknown_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "onp"]) == 2
    assert "opn" in capsys.readouterr().err
