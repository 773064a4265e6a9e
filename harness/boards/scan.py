"""What an append looks for in a board: its last line, and the lines of a run, by bytes and block by block.

A board may be hundreds of megabytes: of the lines only those are parsed that a search for the run's name finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import FileIO

from harness.boards.lines import run_of
from harness.records.canonical import canonical_json

BLOCK = 2**17
"""Bytes that are read at once: few enough that their memory is used again for the next ones."""


def last_line(file: FileIO, size: int) -> bytes:
    """The bytes behind the last line end of a file of `size` bytes, read from its end: b'' where all lines have one."""
    tail, start = b"", size
    while start and b"\n" not in tail:
        step = min(start, max(BLOCK, len(tail)))  # doubled, so that a long tail is not copied for each block
        start -= step
        file.seek(start)
        tail = file.read(step) + tail
    return tail[tail.rfind(b"\n") + 1 :]


def line_ends(file: FileIO) -> int:
    """How many line ends a file has."""
    file.seek(0)
    return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


def line_at(file: FileIO, start: int) -> bytes:
    """The line that begins at the byte `start`, without its end."""
    file.seek(start)
    line = b""
    while b"\n" not in line and (block := file.read(BLOCK)):
        line += block
    return line.partition(b"\n")[0]


def lines_with_places(file: FileIO) -> Iterator[tuple[int, bytes]]:
    """Each line with the byte at which it begins."""
    rest, start = b"", 0
    file.seek(0)
    while block := file.read(max(BLOCK, len(rest))):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield start, line
            start += len(line) + 1
    if rest:
        yield start, rest


def lines_of_run(file: FileIO, run: str) -> Iterator[bytes]:
    """The lines, without blanks around them, that say that they are of a run, whole or edited."""
    name = canonical_json(run).encode()
    said = re.compile(rb'"run"\s*:\s*' + re.escape(name))
    for line in _lines_with(file, name):
        if said.search(line) and run_of(line) == run:
            yield line


def _lines_with(file: FileIO, text: bytes) -> Iterator[bytes]:
    """The lines that hold `text`, without blanks around them."""
    rest = b""  # a line whose end is in a later block
    file.seek(0)
    while block := file.read(max(BLOCK, len(rest))):
        lines = rest + block
        end = lines.rfind(b"\n") + 1
        yield from _found(lines, text, end)
        rest = lines[end:]
    yield from _found(rest, text, len(rest))


def _found(lines: bytes, text: bytes, end: int) -> Iterator[bytes]:
    """Those of the lines up to the byte `end`."""
    place = lines.find(text, 0, end)
    while place >= 0:
        start, stop = lines.rfind(b"\n", 0, place) + 1, lines.find(b"\n", place, end)
        stop = end if stop < 0 else stop
        yield lines[start:stop].strip()
        place = lines.find(text, stop, end)
