"""The log of a run: what is written after a kill can be read, and what a kill has torn is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report.run_log import read_log
from harness.runs.folder import read_log_entries
from harness.training.callbacks import Event
from harness.training.run_log import RunLog


def event(episodes: int) -> Event:
    return Event("all", episodes, episodes // 2, 1.5, 1.0, None, None, episodes / 10)


def logged(path: Path, *episodes: int) -> None:
    log = RunLog(path)
    for each in episodes:
        log.on_update(event(each))
    log.on_end(None)


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_what_follows_a_torn_line_is_read(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    logged(path, 2, 4)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    logged(path, 6, 8)
    torn = [] if cut > 1 else [4]  # without its line feed alone it is whole
    assert [entry["episodes"] for entry in read_log_entries(tmp_path)] == [2, *torn, 6, 8]
    assert [entry.episodes for entry in read_log(tmp_path)] == [2, *torn, 6, 8]


def test_a_log_begins_with_its_first_entry(tmp_path: Path) -> None:
    logged(tmp_path / "log.jsonl", 2)
    assert (tmp_path / "log.jsonl").read_bytes().startswith(b'{"event": "update"')


@pytest.mark.parametrize("content", [None, b"", b"\xff\x00 junk\n[1]\n3\n\n"])
def test_a_log_that_is_missing_empty_or_damaged_has_no_entries(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "log.jsonl").write_bytes(content)
    assert [*read_log_entries(tmp_path)] == []
    assert read_log(tmp_path) == []
