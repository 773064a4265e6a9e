"""Text that every encoder takes."""

from __future__ import annotations

import codecs
import re
from functools import cache
from os import PathLike
from typing import TextIO

_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>")


def printable(name: str | PathLike[str]) -> str:
    r"""A file's name as text: bytes of it that are not UTF-8 are written as in Python source, b'\xe9' as \xe9.

    Python holds such bytes as halves of characters, which no file and no console takes.
    """
    return str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def without_addresses(message: object) -> str:
    """A library's message, the same in every run: what it names by an address in memory is called 'the file'."""
    return _ADDRESS.sub("the file", str(message))


_PLAIN = {"±": "+/-", "–": "-", "—": "-", "…": "...", "→": "->", "×": "x", "‘": "'", "’": "'"}
"""What stands for a character on a console that lacks it; all others are escaped."""


def replace_unencodable(*streams: TextIO | None) -> None:
    r"""Makes text streams write what their encoding lacks as plain characters (+/- for ±) or else as escapes (\u72ac),
    instead of raising UnicodeEncodeError.

    For standard output and error of a command, which may be in cp1252 or ASCII. Streams that are not text files of the
    standard library (a notebook's) are left as they are.
    """
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_register())


def as_written(text: str, stream: TextIO) -> str:
    """The text as `replace_unencodable` has the stream write it, for what is lined up before it is written."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, _register()).decode(encoding)


@cache
def _register() -> str:
    """The name under which codecs know `_plain`."""
    name = "harness.plain"
    codecs.register_error(name, _plain)
    return name


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in _PLAIN:
        return _PLAIN[error.object[error.start]], error.start + 1
    return codecs.backslashreplace_errors(error)
