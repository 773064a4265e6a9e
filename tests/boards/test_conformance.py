"""A row is ranked only if its method passed the conformance check, which is run once for the same code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.api import verify
from harness.boards import conformance
from harness.boards.conformance import check_marks, checked, unchecked
from harness.boards.store import read_board
from harness.check.report import CheckResult, Report
from harness.method.registry import LoadedMethod, load_method
from harness.protocol.load import load_protocol
from harness.runs import resolve
from harness.testing import tiny_dataset
from tests.helpers.boards import record

PROTOCOL = load_protocol("omniglot_5way_online").protocol
MINE = "from methods.majority import Majority\n\n\nclass Mine(Majority):\n    pass\n"


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Replaces the check by one with the given failures; the list that is returned names the methods it was run on."""

    def replace(*failures: str) -> list[str]:
        ran: list[str] = []

        def check(cls: Any, protocol: Any, options: Any, *, name: str, pictures: Any) -> Report:
            ran.append(name)
            return Report(name, options, "nothing", tuple(CheckResult(each, "", "failed") for each in failures))

        monkeypatch.setattr(conformance, "check_method", check)
        return ran

    return replace


def marks(method: LoadedMethod, cache: Path, **options: Any) -> list[str]:
    return check_marks(method, PROTOCOL, options, cache=cache)


def test_a_pass_is_remembered_for_the_same_code_and_options(tmp_path: Path, outcomes: Callable[..., list[str]]) -> None:
    ran = outcomes()
    (tmp_path / "mine.py").write_text(MINE)
    mine = load_method(f"{tmp_path / 'mine.py'}:Mine")
    assert marks(mine, tmp_path) == marks(mine, tmp_path) == []
    assert len(ran) == 1
    marks(mine, tmp_path, width=3)
    assert len(ran) == 2
    (tmp_path / "mine.py").write_text(MINE + "# changed\n")
    marks(load_method(f"{tmp_path / 'mine.py'}:Mine"), tmp_path)
    assert len(ran) == 3
    assert check_marks(mine, load_protocol("cifarfs_5way_online").protocol, {}, cache=tmp_path) == []
    assert len(ran) == 4


def test_a_failure_is_a_mark_a_check_and_is_not_remembered(
    tmp_path: Path, outcomes: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    ran = outcomes("no cross-talk", "causal")
    for _ in range(2):
        row = checked(record(options={}), load_method("majority"), PROTOCOL, cache=tmp_path)
        assert row.marks == ["failed check: no cross-talk", "failed check: causal"]
    assert len(ran) == 2
    assert "`harness check majority` says why" in capsys.readouterr().err


def test_what_was_not_checked_is_marked_so() -> None:
    assert unchecked(record()).marks == ["not checked"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, outcomes: Callable[..., list[str]]) -> None:
    outcomes()
    (tmp_path / "checked").write_text("a file")
    assert marks(load_method("majority"), tmp_path) == []


@pytest.mark.parametrize(
    ("words", "failures", "heading"),
    [([], (), None), ([], ("causal",), "### Failed a check"), (["--no-check"], (), "### Not checked")],
)
def test_only_what_passed_is_ranked(
    words: list[str],
    failures: tuple[str, ...],
    heading: str | None,
    tmp_path: Path,
    outcomes: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = outcomes(*failures)
    for module in (resolve, verify):
        monkeypatch.setattr(module, "load_dataset", lambda name, *_, **__: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)
    text = "extends: omniglot_delay2\nepisode: {presentations: 3}\nscoring: {shots: [1, 2], test_episodes: 12}\n"
    Path("tiny.yaml").write_text(text)
    run = [
        "run",
        "tiny.yaml",
        "--method",
        "majority",
        "--budget",
        "smoke",
        "--threads",
        "1",
        "--cache",
        "cache",
        "--show-board",
    ]
    assert cli.main([*run, *words]) == 0
    printed = capsys.readouterr().out
    assert ("No row is ranked" in printed) == (heading is not None)
    assert heading is None or heading in printed
    assert len(ran) == ("--no-check" not in words)
    (row,) = (each for _, each in read_board(Path("leaderboards/tiny.jsonl")).records)
    assert row.method_version == 1
    assert row.method_source == load_method("majority").source_hash
    assert row.defaults == []
