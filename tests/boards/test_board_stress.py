"""Boards lose nothing when many write at once and when a writer is killed."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest

from harness.boards.lines import line_of
from harness.boards.store import append_record, read_board
from tests.helpers.boards import (
    append_and_be_killed,
    append_many_at_once,
    append_without_end,
    board_file,
    die_while_appending,
    record,
)

pytestmark = pytest.mark.slow

SPAWN = multiprocessing.get_context("spawn")


def test_sixteen_processes_with_a_hundred_appends_each_lose_and_repeat_none(tmp_path: Path) -> None:
    writers = SPAWN.Process(target=append_many_at_once, args=(str(tmp_path), 16, 100, 5))
    writers.start()
    writers.join(timeout=300)
    assert writers.exitcode == 0
    board = read_board(board_file(tmp_path))
    assert board.problems == ()
    own = [f"w{writer}-{number}" for writer in range(16) for number in range(100)]
    shared = [f"shared-{number}" for number in range(5)]
    assert sorted(each.run for _, each in board.records) == sorted([*own, *shared])


def test_writers_killed_one_after_another_lose_no_row_that_was_on_the_disk(tmp_path: Path) -> None:
    receiver, sender = SPAWN.Pipe(duplex=False)
    writers = SPAWN.Process(target=append_and_be_killed, args=(str(tmp_path), 20, 0, sender))
    writers.start()
    sender.close()
    promised = receiver.recv()
    writers.join(timeout=60)
    assert writers.exitcode == 0
    board = read_board(board_file(tmp_path))
    runs = [each.run for _, each in board.records]
    assert len(promised) >= 20
    assert [run for run in runs if run in set(promised)] == promised
    assert len(runs) == len(set(runs)) <= len(promised) + 20, "at most one a round was not yet told of"
    assert all(".torn-" in problem or "torn:" in problem for problem in board.problems)


def test_a_writer_killed_at_any_moment_leaves_a_readable_board(tmp_path: Path) -> None:
    receiver, sender = SPAWN.Pipe(duplex=False)
    writer = SPAWN.Process(target=append_without_end, args=(str(tmp_path), sender))
    writer.start()
    sender.close()
    promised = 0
    while promised < 15:
        assert receiver.poll(timeout=60)
        promised = receiver.recv()
    writer.kill()
    writer.join(timeout=60)
    while True:
        try:
            promised = receiver.recv()
        except EOFError:
            break
    runs = [each.run for _, each in read_board(board_file(tmp_path)).records]
    assert runs[:promised] == [f"endless-{number}" for number in range(promised)]
    assert len(runs) <= promised + 1
    append_record(record(run="after"), tmp_path, print)
    assert "after" in [each.run for _, each in read_board(board_file(tmp_path)).records]


@pytest.mark.parametrize("share", [0.4, 0.99])
def test_a_line_torn_by_a_kill_is_reported_and_set_aside_whole(tmp_path: Path, share: float) -> None:
    append_record(record(run="before"), tmp_path, print)
    writer = SPAWN.Process(target=die_while_appending, args=(str(tmp_path), share))
    writer.start()
    writer.join(timeout=60)
    assert writer.exitcode == -signal.SIGKILL
    path = board_file(tmp_path)
    torn = path.read_bytes().split(b"\n")[-1]
    assert line_of(record(run="killed", seed=99)).encode().startswith(torn)

    before = read_board(path)
    assert [each.run for _, each in before.records] == ["before"]
    assert before.problems == (
        f"{path.name}:2: torn: the line ends after {len(torn)} bytes; the next append sets it aside",
    )

    said: list[str] = []
    append_record(record(run="after", seed=1), tmp_path, said.append)
    (aside,) = tmp_path.glob("*.torn-*")
    assert aside.read_bytes() == torn
    assert said == [f"{path.name}:2: torn after {len(torn)} bytes; they were moved to {aside.name}"]
    after = read_board(path)
    assert [(line, each.run) for line, each in after.records] == [(1, "before"), (2, "after")]
    assert len(after.problems) == 1
    assert after.problems[0].startswith(aside.name)
