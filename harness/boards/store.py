"""Board files: records are appended so that none is lost, and read so that no faulty line goes unseen.

A board is a text file of lines, one record each (`harness.boards.lines`).
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from harness.boards import run_index
from harness.boards.lines import is_whole, line_of, record_in
from harness.boards.pieces import Pieces
from harness.boards.places import STAND_IN_FOLDER
from harness.boards.scan import last_line, line_ends, lines_of_run
from harness.records.record import Record
from harness.records.same_run import adds_nothing
from harness.util.errors import RunError
from harness.util.garbage import uncollected
from harness.util.json_files import read_bounded
from harness.util.quantities import counted

LOCK_SECONDS = 120.0
TRIES = 20
SETTLING_SECONDS = 0.05
"""How long a last line without its end must stay as it is to count as torn, where locks do not work."""

MOST_OF_BOARD = 2**30
"""Bytes of a board that are read at most: those of a hundred thousand rows are fewer."""

LOG = logging.getLogger(__name__)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Board:
    """What a board file holds: records with their line numbers (from 1); 'file:line: what' for the rest."""

    records: tuple[tuple[int, Record], ...]
    problems: tuple[str, ...]


def board_path(boards: Path, protocol: str, stand_in: bool) -> Path:
    """The file of a protocol's board."""
    return (boards / STAND_IN_FOLDER if stand_in else boards) / f"{protocol}.jsonl"


def append_record(record: Record, boards: Path, report: Report = LOG.warning) -> Path:
    """Appends a record to its board and returns the board's file.

    The line is on the disk when this returns. A record that is there already is not written again, nor one of the same
    run that says less (`harness.records.same_run`). A torn
    last line, left by a writer that was killed, is moved to `<board>.jsonl.torn-<time>`; a last line that is
    whole but for its line end gets one. `report` is told of these, and of a run with other records.
    Raises RunError if the file cannot be written or stays locked by another process; it is then as before.

    No line is parsed but the last, where it has no end, and those that name the run; where these are, a large board has
    an index to say (`harness.boards.run_index`), so that the time does not grow with the board.
    """
    path = board_path(boards, record.protocol, record.data.stand_in)
    line = line_of(record).encode()
    try:
        with locked(path):
            is_new = not path.exists()
            for _ in range(TRIES):
                with path.open("a+b", buffering=0) as file:
                    _mend(file, path, report)
                    same = run_index.lines_of_run(file, path, record.run)
                    if line in same:
                        report(f"{path.name} already has this record of run {record.run}; nothing was appended")
                        return path
                    if any(adds_nothing(record, other) for other in _records_in(same)):
                        report(
                            f"{path.name} has a row of run {record.run} that says all this, or more (that it "
                            "was checked or scored isolated); nothing was appended"
                        )
                        return path
                    if same:
                        report(
                            f"{path.name} has {counted(len(same), 'other row')} of run {record.run}, such as one from "
                            "before it was scored isolated; what is there stays, and the newest is shown"
                        )
                    _append(file, line + b"\n")
                    end = file.tell()
                    run_index.note_line(file, path, record.run, end - len(line) - 1)
                if _holds(path, line, end, record.run):
                    break
            else:
                raise RunError(f"{path} loses rows: another process writes it, and locks do not work there; try again")
            if is_new:
                _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} could not be written ({error.strerror or error}); the record is not on it") from error
    return path


@uncollected()
def read_board(path: Path) -> Board:
    """Reads a board; what cannot be trusted or understood becomes a problem, the rest is read.

    Problems are bad JSON, keys given twice, an unknown schema version, a line that was edited after it was
    written, a record that breaks the schema or belongs to another board, a line that is there twice, a torn
    last line, and tails that were set aside earlier. A file that does not exist is an empty board; RunError
    is raised for one that cannot be read.
    """
    records: list[tuple[int, Record]] = []
    problems: list[str] = []
    try:
        content = read_bounded(path, MOST_OF_BOARD) if path.exists() else b""
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    ended = content.endswith(b"\n")
    lines = content.split(b"\n")
    seen: dict[bytes, int] = {}
    pieces = Pieces()
    board, is_stand_in = path.stem, path.parent.name == STAND_IN_FOLDER
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if not line:
            continue
        try:
            if line in seen:
                raise ValueError(f"the same as line {seen[line]}; counted once")
            seen[line] = number
            records.append((number, _on_board(record_in(line, pieces), board, is_stand_in)))
        except (ValueError, RecursionError) as error:
            torn = number == len(lines) and not ended and not is_whole(line)
            what = f"torn: the line ends after {len(line)} bytes; the next append sets it aside" if torn else error
            problems.append(f"{path.name}:{number}: {what}")
    for tail in sorted(path.parent.glob(f"{glob.escape(path.name)}.torn-*")):
        problems.append(
            f"{tail.name}:1: a torn line of {tail.stat().st_size} bytes, set aside; delete it when looked at"
        )
    return Board(tuple(records), tuple(problems))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file that several processes write, in a folder that is made if need be.

    A killed holder's lock is free at once. Raises RunError if another process holds it for longer than
    LOCK_SECONDS, or if there can be no lock there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock", timeout=LOCK_SECONDS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise RunError(f"{path} has been locked by another process for {LOCK_SECONDS:.0f} s") from None
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        lock.release()


def _holds(path: Path, line: bytes, end: int, run: str) -> bool:
    """Whether a line that was appended, up to the byte `end`, is still there, by the file's name: without working
    locks, others may have cut it off as a torn tail or put another file in its place."""
    try:
        with path.open("rb", buffering=0) as file:
            start = max(0, end - len(line) - 2)  # the end of the line before, this line and its end
            file.seek(start)
            there = file.read(end - start).rstrip(b"\n").rpartition(b"\n")
            return there[2] == line or line in lines_of_run(file, run)
    except FileNotFoundError:
        return False


def _mend(file: FileIO, path: Path, report: Report) -> None:
    """Mends a last line that has no line end, or sets it aside; unless there is one, only the last block is read."""
    size = os.fstat(file.fileno()).st_size
    tail = last_line(file, size)
    if not tail:
        return
    time.sleep(SETTLING_SECONDS)
    if os.fstat(file.fileno()).st_size != size:
        return _mend(file, path, report)  # no torn tail: somebody without the lock was in the middle of it
    place = f"{path.name}:{1 + line_ends(file)}"
    if is_whole(tail.strip()):
        _append(file, b"\n")
        report(f"{place}: the line was whole but for its line end, which was added")
        return
    aside = _set_aside(path, tail)
    file.truncate(size - len(tail))
    os.fsync(file.fileno())
    report(f"{place}: torn after {len(tail)} bytes; they were moved to {aside.name}")


def _set_aside(path: Path, tail: bytes) -> Path:
    """Writes a torn tail to a file of its own that did not exist before."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1000):
        aside = path.with_name(f"{path.name}.torn-{stamp}" + (f"-{number}" if number > 1 else ""))
        try:
            with aside.open("xb") as file:
                file.write(tail)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            continue
        _sync_folder(path.parent)
        return aside
    raise RunError(f"{path.parent} has too many torn tails of {path.name}; look at them and delete them")


def _append(file: FileIO, data: bytes) -> None:
    """Appends all of `data` and waits for the disk; if that fails, the file is cut back to what it was."""
    size = os.fstat(file.fileno()).st_size
    try:
        # Unbuffered, so that closing the file after a full disk writes nothing more.
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise


def _sync_folder(folder: Path) -> None:
    """Makes a new file's name durable, where the system lets folders be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _records_in(lines: Sequence[bytes]) -> Iterator[Record]:
    """The records of those lines that can be trusted."""
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            yield record_in(line)


def _on_board(record: Record, board: str, is_stand_in: bool) -> Record:
    if record.protocol != board:
        raise ValueError(f"the record is of protocol '{record.protocol}', which has a board of its own")
    if record.data.stand_in != is_stand_in:
        where = f"{STAND_IN_FOLDER}/" if record.data.stand_in else "the boards of real data"
        raise ValueError(f"data.stand_in is {str(record.data.stand_in).lower()}: the record belongs to {where}")
    return record
