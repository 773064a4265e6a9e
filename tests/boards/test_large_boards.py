"""What a board costs grows no faster than its rows, whether they are seeds of few settings or settings of few seeds."""

from __future__ import annotations

import cProfile
import hashlib
import json
import pstats
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from harness.boards import pieces
from harness.boards.markdown import View, render_board, view_board
from harness.boards.store import append_record
from harness.cli.board_text import board_text
from harness.records import record as record_module
from harness.records.canonical import canonical_json
from tests.helpers.boards import LOADED, board_file, record

SHAPES: dict[str, Callable[[int], dict[str, Any]]] = {
    "many seeds": lambda n: {"options": {"width": n % 5}, "seed": n // 5},
    "many settings": lambda n: {"options": {"width": n // 2}, "seed": n % 2},
}


def write(boards: Path, shape: str, rows: int) -> None:
    """A board of so many rows, as the harness would have written them."""
    content = record().model_dump(mode="json")
    with board_file(boards).open("w") as file:
        for number in range(rows):
            metrics = {
                name: {"mean": 50 + number % 997 / 20, "interval": 0.5, "episodes": 1000} for name in content["metrics"]
            }
            text = canonical_json({**content, "run": f"r{number}", "metrics": metrics, **SHAPES[shape](number)})
            digest = hashlib.sha256(text.encode()).hexdigest()
            file.write(text.replace('"status"', f'"sha256":"{digest}","status"', 1) + "\n")


def shown(boards: Path) -> tuple[View, str, str]:
    view = view_board(LOADED.name, LOADED.protocol, boards, False)
    return view, render_board(view), board_text(view, 120)


def calls(boards: Path) -> int:
    profile = cProfile.Profile()
    profile.runcall(shown, boards)
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined]


@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_the_rows_take_four_times_the_calls(tmp_path: Path, shape: str) -> None:
    write(tmp_path, shape, 100)
    shown(tmp_path)  # what is imported and computed once
    few = calls(tmp_path)
    write(tmp_path, shape, 400)
    assert calls(tmp_path) < 4.4 * few


@pytest.mark.parametrize(("shape", "most"), [("many seeds", 180), ("many settings", 500)])
def test_a_row_takes_few_calls(tmp_path: Path, shape: str, most: int) -> None:
    """It took two thousand when each column computed its metric anew, and each row was serialised to be read."""
    write(tmp_path, shape, 400)
    shown(tmp_path)
    assert calls(tmp_path) < most * 400


@pytest.mark.parametrize(("shape", "settings"), [("many seeds", 5), ("many settings", 200)])
def test_what_rows_share_is_read_and_computed_once_a_setting(
    tmp_path: Path, shape: str, settings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, shape, 400)
    read, key = (Mock(wraps=each) for each in (pieces._remembered, record_module.key_of))
    monkeypatch.setattr(pieces, "_remembered", read)
    monkeypatch.setattr(record_module, "key_of", key)
    view = view_board(LOADED.name, LOADED.protocol, tmp_path, False)
    render_board(view)
    assert view.standings.entries == settings
    assert (read.call_count, key.call_count) == (len(pieces.SHARED) - 1 + settings, settings)


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_shown_and_appended_to_in_bounded_time(tmp_path: Path) -> None:
    """The bounds are several times what it took (docs/speed.md): they catch what grows with the square."""
    write(tmp_path, "many seeds", 100_000)
    start = time.process_time()
    view, markdown, text = shown(tmp_path)
    assert time.process_time() - start < 60
    assert len(view.board.records) == 100_000
    assert view.board.problems == ()
    assert markdown.count("\n") > 5 < text.count("\n")
    del view
    start = time.process_time()
    append_record(record(run="one more", seed=10**6), tmp_path)
    assert time.process_time() - start < 3
    last = board_file(tmp_path).read_bytes().splitlines()[-1]
    assert json.loads(last)["run"] == "one more"
