"""A board's file: appending loses nothing, and what is wrong with a line is said while the others are read."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from harness.boards import store as board_module
from harness.boards.lines import line_of
from harness.boards.markdown import write_index
from harness.boards.store import append_record, read_board
from harness.records.canonical import canonical_json, sha256_of
from harness.util.errors import RunError
from tests.helpers.boards import append_many_at_once, board_file, record


def signed(content: dict[str, Any]) -> str:
    return canonical_json({**content, "sha256": sha256_of(content)})


def content_of(**changes: Any) -> dict[str, Any]:
    return {**record().model_dump(mode="json"), **changes}


# Appending


def test_an_appended_record_is_read_back_the_same(tmp_path: Path) -> None:
    path = append_record(record(accuracy=100 / 3), tmp_path)
    assert path == board_file(tmp_path)
    assert read_board(path).records == ((1, record(accuracy=100 / 3)),)
    assert path.read_text() == line_of(record(accuracy=100 / 3)) + "\n"


def test_the_identical_record_is_not_appended_again_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    path = append_record(record(), tmp_path, said.append)
    before = path.read_bytes()
    append_record(record(), tmp_path, said.append)
    assert path.read_bytes() == before
    assert said == ["tiny_online.jsonl already has this record of run opn-quick-s0; nothing was appended"]


def test_a_run_with_other_content_is_kept_beside_the_older_one_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    append_record(record(), tmp_path, said.append)
    path = append_record(record(accuracy=81.0, finished="2026-01-02T00:00:00Z"), tmp_path, said.append)
    assert len(read_board(path).records) == 2
    assert len(said) == 1
    assert "opn-quick-s0" in said[0]


def test_a_torn_tail_is_neither_lost_nor_joined_to_the_next_line(tmp_path: Path) -> None:
    path = append_record(record(), tmp_path)
    for number in (1, 2):
        with path.open("ab") as file:
            file.write(b'{"torn')
        append_record(record(seed=number), tmp_path, print)
    tails = sorted(tmp_path.glob("*.torn-*"))
    assert [tail.read_bytes() for tail in tails] == [b'{"torn'] * 2
    board = read_board(path)
    assert [each.seed for _, each in board.records] == [0, 1, 2]
    assert len(board.problems) == 2


@pytest.mark.parametrize("tail", [b"", b" ", b"\r", b"\x0b", b"\x0c"])
def test_a_last_line_that_lacks_only_its_end_is_kept_as_a_row(tmp_path: Path, tail: bytes) -> None:
    path = append_record(record(), tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n") + tail)
    said: list[str] = []
    append_record(record(run="next", seed=1), tmp_path, said.append)
    assert [each.seed for _, each in read_board(path).records] == [0, 1]
    assert said == ["tiny_online.jsonl:1: the line was whole but for its line end, which was added"]
    assert list(tmp_path.glob("*.torn-*")) == []


def test_a_full_disk_leaves_the_board_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = append_record(record(), tmp_path)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(board_module.os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        append_record(record(seed=1), tmp_path)
    assert path.read_bytes() == before


def test_a_board_that_stays_locked_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(board_module, "LOCK_SECONDS", 0.0)
    with FileLock(f"{board_file(tmp_path)}.lock"), pytest.raises(RunError, match="locked by another process"):
        append_record(record(), tmp_path)


def test_a_boards_folder_that_is_a_file_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "boards").write_text("mine")
    for write in (lambda: append_record(record(), tmp_path / "boards"), lambda: write_index(tmp_path / "boards")):
        with pytest.raises(RunError, match="cannot be written"):
            write()
    assert (tmp_path / "boards").read_text() == "mine"


# Reading


def test_a_board_that_cannot_be_read_is_an_error_in_words(tmp_path: Path) -> None:
    board_file(tmp_path).mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        read_board(board_file(tmp_path))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{not json}", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"a": 1, "a": 2}', "key 'a' is given twice"),
        ('{"a": NaN}', "NaN is not a number"),
        ("[" * 100_000, "recursion"),
        ("<<<<<<< HEAD", "not JSON"),
        ("{}", "schema_version is None"),
        (signed(content_of(schema_version=0)), "schema_version is 0; this harness reads 1"),
        (signed(content_of(schema_version=2)), "schema_version is 2; this harness reads 1"),
        (signed(content_of(schema_version=True)), "schema_version is True"),
        (canonical_json(content_of()), "no sha256"),
        (line_of(record()).replace('"seed":0', '"seed":1'), "sha256 does not fit"),
        (line_of(record()).replace('"mean":80.0', '"mean":1e999'), "Out of range float"),
        (
            signed(content_of(seed=-1, surprise=1)),
            "seed: Input should be greater than or equal to 0; surprise: Extra",
        ),
        (line_of(record(protocol="another")), "the record is of protocol 'another'"),
        (line_of(record(stand_in=True)), "the record belongs to stand_in/"),
        (line_of(record(run="first")), "the same as line 1; counted once"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_the_good_ones_are_read(
    tmp_path: Path, line: str, what: str
) -> None:
    path = board_file(tmp_path)
    path.write_text(f"{line_of(record(run='first'))}\n{line}\n{line_of(record(run='third'))}\n")
    board = read_board(path)
    assert [(number, each.run) for number, each in board.records] == [(1, "first"), (3, "third")]
    assert len(board.problems) == 1
    assert board.problems[0].startswith("tiny_online.jsonl:2: ")
    assert what in board.problems[0]


def test_bytes_that_are_no_text_are_reported(tmp_path: Path) -> None:
    path = board_file(tmp_path)
    path.write_bytes(b"\xff\xfe\n" + line_of(record()).encode() + b"\r\n\n")
    board = read_board(path)
    assert [number for number, _ in board.records] == [2]
    assert board.problems == ("tiny_online.jsonl:1: not UTF-8 at byte 1",)


def test_a_board_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert read_board(board_file(tmp_path)) == board_module.Board((), ())


def test_a_row_from_the_future_is_a_problem(tmp_path: Path) -> None:
    append_record(record(run="now"), tmp_path)
    append_record(record(run="never", seed=1, finished="9999-01-01T00:00:00Z"), tmp_path)
    board = read_board(board_file(tmp_path))
    assert [each.run for _, each in board.records] == ["now"]
    assert board.problems == ("tiny_online.jsonl:2: finished is in the future (9999-01-01T00:00:00Z)",)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2**63},
        {"train_episodes": 10**400},
        {"train_updates": 0xFFFFFFFFFFFFFFFFFFFFFFFF},
        {"test_episodes": 2**64},
        {"options": {"width": 10**30}},
        {"options": {"widths": [1, {"a": -(10**30)}]}},
        {"hardware": {"device": "cpu", "cpu": "x", "gpu": None, "threads": 999_999, "cores": 2}},
    ],
)
def test_numbers_that_no_run_has_are_a_problem_of_their_line(change: dict[str, Any], tmp_path: Path) -> None:
    path = append_record(record(), tmp_path)
    content = {**record(run="huge").model_dump(mode="json"), **change}
    path.write_text(path.read_text() + canonical_json({**content, "sha256": sha256_of(content)}) + "\n")
    board = read_board(path)
    assert len(board.records) == 1
    (problem,) = board.problems
    assert problem.startswith(f"tiny_online.jsonl:2: {next(iter(change))}")


@pytest.mark.parametrize("number", ["1e999", "NaN", "9" * 5000])
def test_numbers_that_json_cannot_hold_are_a_problem_of_their_line(number: str, tmp_path: Path) -> None:
    path = append_record(record(), tmp_path)
    line = path.read_text().replace('"train_episodes":20000', f'"train_episodes":{number}')
    path.write_text(path.read_text() + line)
    board = read_board(path)
    assert len(board.records) == 1
    assert len(board.problems) == 1


def test_writers_without_working_locks_lose_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems: every writer believes that it holds the lock."""
    monkeypatch.setattr(board_module, "locked", lambda path: contextlib.nullcontext())
    append_many_at_once(str(tmp_path), writers=8, count=12, shared=0)
    board = read_board(board_file(tmp_path))
    assert len(board.records) == 8 * 12


def test_an_appended_row_that_was_cut_off_by_another_writer_is_appended_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, own, calls = board_file(tmp_path), board_module._append, []

    def cut_off(file: Any, data: bytes) -> None:
        own(file, data)
        calls.append(data)
        if len(calls) < 3:
            path.write_bytes(b"")

    monkeypatch.setattr(board_module, "_append", cut_off)
    append_record(record(), tmp_path)
    assert len(calls) == 3
    assert len(read_board(path).records) == 1
