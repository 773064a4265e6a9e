"""What an append looks for in a board is found wherever blocks end, and little of the file is parsed for it."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.boards import lines, scan
from harness.boards.lines import line_of
from harness.boards.scan import last_line, line_ends, lines_of_run
from harness.boards.store import append_record, read_board
from tests.helpers.boards import record


@pytest.mark.parametrize("block", [1, 7, 64, 5000])
@pytest.mark.parametrize("end", ["\n", "", "\r\n", "\n\n"])
def test_lines_of_a_run_are_found_wherever_blocks_end(
    tmp_path: Path, block: int, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "BLOCK", block)
    rows = [line_of(record(run=run, seed=seed)) for seed, run in enumerate(["a", "b", "a", "opn", "a\\b", "a"])]
    path = tmp_path / "board.jsonl"
    path.write_text("\n".join([*rows[:3], "", "broken", *rows[3:]]) + end)
    with FileIO(path) as file:
        assert list(lines_of_run(file, "a")) == [rows[0].encode(), rows[2].encode(), rows[5].encode()]
        assert list(lines_of_run(file, "a\\b")) == [rows[4].encode()]
        assert list(lines_of_run(file, "opn")) == [rows[3].encode()], "and not where it is the name of the method"
        assert list(lines_of_run(file, "c")) == []
        assert line_ends(file) == path.read_bytes().count(b"\n")
        expected = path.read_bytes().rpartition(b"\n")[2]
        assert last_line(file, path.stat().st_size) == expected


def test_a_line_with_blanks_between_its_keys_is_of_its_run(tmp_path: Path) -> None:
    path = append_record(record(), tmp_path)
    path.write_text(path.read_text().replace('"run":', '"run" : '))
    said: list[str] = []
    append_record(record(), tmp_path, said.append)
    assert [text.partition(" has ")[2][:25] for text in said] == ["a row of run opn-quick-s0"]


def test_an_append_parses_the_lines_of_its_run_alone_and_reads_the_board_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny_online.jsonl"
    path.write_text("".join(f"{line_of(record(run=f'r{seed}', seed=seed))}\n" for seed in range(300)))
    parsed, searched = Mock(wraps=lines._parsed), Mock(wraps=scan._lines_with)
    monkeypatch.setattr(lines, "_parsed", parsed)
    monkeypatch.setattr(scan, "_lines_with", searched)
    append_record(record(run="new", seed=300), tmp_path)
    assert (parsed.call_count, searched.call_count) == (0, 1)
    append_record(record(run="r7", seed=301), tmp_path, print)
    assert (parsed.call_count, searched.call_count) == (1, 2)
    assert len(read_board(path).records) == 302
