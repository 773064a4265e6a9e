"""Text from rows, protocols and methods as it may be shown: what would steer a terminal or a page is spelt out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, escapes among them, but for tabs and line ends
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # direction of writing, line ends, and what has no width
    "\ud800-\udfff\ufff9-\ufffb]"  # halves of characters, and interlinear marks
)


def shown(text: str) -> str:
    """Text of several lines for a terminal: control and direction characters are spelt out as '\\x1b' or '\\u202e'."""
    if text.isprintable():  # as are none of these characters, and nearly every text
        return text
    return _STEERING.sub(_spelt, text.replace("\r\n", "\n"))


def shortened(text: str) -> str:
    """The text with words of more than 300 characters cut in their middle: what was typed is repeated in errors."""
    return re.sub(r"(\S{140})\S{20,}(\S{140})", r"\1 ... \2", text)


def in_line(text: str) -> str:
    """The same in one line: white space of any kind becomes single blanks."""
    return shown(" ".join(text.split()))


def in_markdown(text: str) -> str:
    """The same as Markdown, in a heading or in a table's cell: it ends no cell and begins neither HTML nor a link."""
    line = in_line(text).replace("<", "&lt;")
    if "|" in line:
        line = re.sub(r"(\\*)\|", lambda found: 2 * found[1] + "\\|", line)
    return re.sub(r"\](?=[(\[:])", r"\\]", line) if "]" in line else line


def cells_in_markdown(cells: Sequence[str]) -> list[str]:
    """`in_markdown` of many texts: where none of them has anything to be changed, they are looked at as one."""
    whole = "\n" + "\n".join(cells) + "\n"
    plain = whole.count("\n") == len(cells) + 1 and whole.replace("\n", "").isprintable()
    if plain and not any(each in whole for each in _NOT_AS_THEY_ARE):
        return list(cells)
    return [in_markdown(each) for each in cells]


_NOT_AS_THEY_ARE = ("\n ", "  ", " \n", "<", "|", "](", "][", "]:")
"""What is to be changed of printable texts in lines of their own."""


def in_json(data: Any) -> str:
    """Indented JSON in which such characters are escaped, so that it reads back as the same data."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(data, indent=1, ensure_ascii=False))


def _spelt(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
