"""The index of a large board: appends find what they looked for before there was one, and search nothing."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

import pytest

from harness.boards import run_index, scan, store
from harness.boards.lines import line_of
from harness.boards.store import append_record, read_board
from tests.helpers.boards import board_file, record


@pytest.fixture(autouse=True)
def _every_board_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "LEAST", 1)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A board of five rows with an index that fits it."""
    for seed in range(5):
        append_record(record(run=f"run-{seed}", seed=seed), tmp_path, print)
    return board_file(tmp_path)


def said_of(run: str, board: Path) -> list[str]:
    """What an append of a run that is on the board says, which leaves the board as it is."""
    before, said = board.read_bytes(), list[str]()
    append_record(record(run=run, seed=int(run[-1])), board.parent, said.append)
    assert board.read_bytes() == before
    return said


def test_an_append_to_a_board_with_an_index_searches_nothing(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        for search in ("lines_of_run", "lines_with_places"):
            patched.setattr(scan, search, None)
        append_record(record(run="another", seed=9), board.parent, pytest.fail)
        assert said_of("run-3", board) == [f"{board.name} already has this record of run run-3; nothing was appended"]
    assert len(read_board(board).records) == 6


@pytest.mark.parametrize("run", ["run-0", "run-4"])
def test_a_run_with_other_records_is_told(run: str, board: Path) -> None:
    said = list[str]()
    append_record(record(run=run, seed=int(run[-1]), accuracy=12.5), board.parent, said.append)
    assert len(said) == 1
    assert "has 1 other row of run" in said[0]


def test_a_small_board_has_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for _ in range(2):
        append_record(record(), tmp_path, print)
    assert not run_index.index_path(board_file(tmp_path)).exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: [*lines[3:], *lines[:3]],
        lambda lines: [lines[0].replace(b'"run":"run-0"', b'"run" : "run-0"'), *lines[1:]],
        lambda lines: [*lines, record(run="run-7", seed=7).model_dump_json().encode() + b"\n"],
    ],
    ids=["a line removed", "merged in another order", "blanks", "a line added"],
)
def test_a_board_that_others_changed_is_searched_once_more(change, board: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    board.write_bytes(b"".join(change(board.read_bytes().splitlines(keepends=True))))
    there = [name for name in ("run-0", "run-3", "run-7") if f'"{name}"'.encode() in board.read_bytes()]
    plain = {}
    with monkeypatch.context() as patched:
        patched.setattr(run_index, "LEAST", 2**60)
        with board.open("rb", buffering=0) as file:
            plain = {name: run_index.lines_of_run(file, board, name) for name in there}
    assert all(plain.values())
    with board.open("rb", buffering=0) as file:
        assert {name: run_index.lines_of_run(file, board, name) for name in there} == plain


def test_a_change_of_the_same_size_is_seen_by_its_time(board: Path) -> None:
    content, before = board.read_bytes(), board.stat().st_mtime_ns
    board.write_bytes(content.replace(b"run-1", b"run-8"))
    os.utime(board, ns=(before, before + 1))
    with board.open("rb", buffering=0) as file:
        assert run_index.lines_of_run(file, board, "run-1") == []
        assert len(run_index.lines_of_run(file, board, "run-8")) == 1


@pytest.mark.parametrize("content", [b"", b"not a database", None], ids=["empty", "text", "a folder"])
def test_an_index_that_is_none_is_made_anew_or_done_without(content: bytes | None, board: Path) -> None:
    index = run_index.index_path(board)
    index.unlink()
    index.mkdir() if content is None else index.write_bytes(content)
    assert len(said_of("run-2", board)) == 1
    append_record(record(run="next", seed=6), board.parent, pytest.fail)
    assert len(read_board(board).records) == 6


def test_a_row_whose_note_was_lost_is_found_all_the_same(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process was killed between the append and the note."""
    with monkeypatch.context() as patched:
        patched.setattr(run_index, "note_line", lambda *_: None)
        append_record(record(run="run-6", seed=6), board.parent, pytest.fail)
    assert len(said_of("run-6", board)) == 1
    assert len(said_of("run-1", board)) == 1


def test_rows_that_others_append_meanwhile_are_found(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks do not work, somebody else may append just before the own row is written."""
    plain = store._append

    def after_another(file: FileIO, data: bytes) -> None:
        with board.open("ab", buffering=0) as other:
            other.write(line_of(record(run="other", seed=7)).encode() + b"\n")
        plain(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(store, "_append", after_another)
        append_record(record(run="mine", seed=8), board.parent, pytest.fail)
    with board.open("rb", buffering=0) as file:
        assert [len(run_index.lines_of_run(file, board, run)) for run in ("other", "mine", "run-2")] == [1, 1, 1]


def test_names_that_json_writes_otherwise_are_found(tmp_path: Path) -> None:
    for run in ('quoted "twice"', "back\\slash", "Grüße"):
        for _ in range(2):
            append_record(record(run=run), tmp_path, print)
    assert len(read_board(board_file(tmp_path)).records) == 3
