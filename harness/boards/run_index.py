"""Where in a large board the lines of a run are: an index beside the board, so that an append searches nothing.

A board is the truth, and people edit it and git merges it. The index only says where to look: it is used while the
board has the size and the time of change that it had when the index was last written, is made anew by one search of the
board otherwise, and may be deleted at any time. A change that keeps both (`cp -p` of another board) is not seen: a row
may then be appended twice, which whoever reads the board is told. Whoever reads or writes it holds the board's lock.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import closing
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from harness.boards import scan
from harness.boards.lines import run_of
from harness.records.canonical import canonical_json

if TYPE_CHECKING:
    import sqlite3

LEAST = 2**24
"""Bytes of a board from which on it has an index: in fewer a search takes a hundredth of a second."""

PATIENCE = 0.5
"""Seconds to wait for somebody who looks into an index by other means."""

_SAID = re.compile(rb'"run"\s*:\s*("(?:[^"\\]|\\.)*")')
"""What says that a line, or something in it, is of a run; the name as it stands there."""

_TABLES = """
CREATE TABLE lines (run BLOB NOT NULL, start INTEGER NOT NULL);
CREATE INDEX by_run ON lines (run);
CREATE TABLE board (size INTEGER NOT NULL, changed INTEGER NOT NULL);
"""


def index_path(board: Path) -> Path:
    """The file of a board's index."""
    return board.with_name(f"{board.name}.index")


def lines_of_run(file: FileIO, board: Path, run: str) -> list[bytes]:
    """The lines of an open board, without blanks around them, that say that they are of a run, whole or edited."""
    if os.fstat(file.fileno()).st_size < LEAST:
        return list(scan.lines_of_run(file, run))
    import sqlite3

    try:
        with closing(_fitting(file, board)) as index:
            places = index.execute("SELECT start FROM lines WHERE run = ? ORDER BY start", (_name(run),)).fetchall()
    except (sqlite3.Error, OSError):  # it cannot be written there, or is none
        with contextlib.suppress(OSError):
            index_path(board).unlink()
        return list(scan.lines_of_run(file, run))
    lines = [scan.line_at(file, start).strip() for (start,) in places]
    return [line for line in lines if run_of(line) == run]


def note_line(file: FileIO, board: Path, run: str, start: int) -> None:
    """Notes that the line that was just appended to an open board, from the byte `start` on, is of a run."""
    if start < LEAST:
        return
    import sqlite3

    try:
        with closing(sqlite3.connect(index_path(board), PATIENCE)) as index, index:
            if index.execute("SELECT size FROM board").fetchone() == (start,):
                index.execute("INSERT INTO lines VALUES (?, ?)", (_name(run), start))
                index.execute("UPDATE board SET size = ?, changed = ?", _state(file))
    except (sqlite3.Error, OSError):
        return  # it no longer fits the board, and is made anew next time


def _fitting(file: FileIO, board: Path) -> sqlite3.Connection:
    """The index of an open board as it is."""
    import sqlite3

    path = index_path(board)
    if path.exists():
        index = sqlite3.connect(path, PATIENCE)
        try:
            if index.execute("SELECT size, changed FROM board").fetchone() == _state(file):
                return index
        except sqlite3.Error:
            pass
        index.close()
        path.unlink()
    index = sqlite3.connect(path, PATIENCE)
    try:
        with index:
            index.executescript(_TABLES)
            index.executemany("INSERT INTO lines VALUES (?, ?)", _all_lines(file))
            index.execute("INSERT INTO board VALUES (?, ?)", _state(file))
    except BaseException:
        index.close()
        raise
    return index


def _all_lines(file: FileIO) -> Iterator[tuple[bytes, int]]:
    """The names of runs in each line, and where the line begins."""
    for start, line in scan.lines_with_places(file):
        for name in dict.fromkeys(_SAID.findall(line)):
            yield name, start


def _state(file: FileIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _name(run: str) -> bytes:
    return canonical_json(run).encode()
