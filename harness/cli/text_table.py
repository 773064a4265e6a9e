"""Tables for people: as many columns as the terminal is wide, texts wrapped at words; and the same rows as CSV."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TextIO

from harness.util import shown_text
from harness.util.text import as_written

Rows = Sequence[dict[str, str]]
"""Rows that share their columns: name of the column to the text of the cell."""

GAP = 2
LEAST = 18
"""Characters that a column of texts is narrowed to at most."""


def terminal_width() -> int:
    """Characters in a line of the terminal; a file or a pipe takes any width."""
    return shutil.get_terminal_size((10_000, 50)).columns


def text_table(
    rows: Rows,
    width: int,
    needed: Sequence[str],
    wrapped: Sequence[str] = (),
    beneath: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> tuple[str, list[str]]:
    """Lines of a table, and the names of the columns that were left out.

    The columns `needed` are always there; the others are added in their order as long as the table fits `width`. Those
    in `wrapped` hold texts, which are wrapped at words where there is no room for them in one line. `beneath` gives,
    from the names of the columns that are shown, a text for each row, which stands below its `method` ('' for none).
    """
    rows = [{name: as_written(cell, sys.stdout) for name, cell in row.items()} for row in rows]
    natural = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    least = {name: min(LEAST, full) if name in wrapped else full for name, full in natural.items()}
    chosen = [*needed]
    for name in natural:
        if name not in chosen and sum(least[each] + GAP for each in [*chosen, name]) - GAP <= width:
            chosen.append(name)
    shown = [name for name in natural if name in chosen]
    widths = _widths(shown, natural, least, width)
    lines = [
        _line([(name, widths[name]) for name in shown]),
        _line([("-" * widths[name], widths[name]) for name in shown]),
    ]
    below = beneath(shown) if beneath else [""] * len(rows)
    indent = " " * (GAP + sum(widths[name] + GAP for name in shown[: shown.index("method")])) if beneath else ""
    for row, text in zip(rows, below, strict=True):
        cells = [_wrapped(row[name], widths[name]) for name in shown]
        for parts in zip_longest(*cells, fillvalue=""):
            lines.append(_line([(part, widths[name]) for part, name in zip(parts, shown, strict=True)]))
        if text:
            lines.append(textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent))
    return "\n".join(lines), [name for name in natural if name not in chosen]


def csv_table(rows: Rows, names: Sequence[str]) -> str:
    """The rows with all their columns as comma-separated values, below a line of their names; that of `names`, which is
    what rows would have at least, where there are no rows."""
    out = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row) or names
    writer = csv.DictWriter(out, [*columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return shown_text.shown(out.getvalue())


_COMMAND = re.compile(r"(?<=: )harness [^(]*(?<! )|`[^`]+`|(?<!\w)'[^']+'(?!\w)")
"""What is pasted from a text: commands after a colon, to the end or to a bracket, and all that is quoted."""


def wrap(text: str, width: int, indent: str = "", stream: TextIO | None = None) -> str:
    """Paragraphs wrapped at words, commands left in one piece; continued lines begin with `indent`.

    Characters are those that `stream` (standard output) has: others are written as several.
    """
    width = max(20, width)

    def whole(match: re.Match[str]) -> str:
        found = match[0]
        return found if found[0] in "`'" and len(indent + found) >= width else found.replace(" ", "\xa0")

    lines = [
        textwrap.fill(
            _COMMAND.sub(whole, line), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ).replace("\xa0", " ")
        if len(line) > width
        else line
        for line in as_written(text, stream or sys.stdout).splitlines()
    ]
    return "\n".join(lines)


def message(text: str, stream: TextIO | None = None) -> str:
    """A message of several words or lines as the terminal has room for it; it goes to `stream` (standard error)."""
    return "\n".join(
        wrap(line, terminal_width(), " " * (len(line) - len(line.lstrip()) + 2), stream or sys.stderr)
        for line in text.splitlines()
    )


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of a cell, at least one; a number and its interval stay in one line."""
    if len(text) <= width and text.isprintable() and text.strip(" ") == text != "":
        return [text]
    together = re.sub(r" (±|\+/-) ", "\xa0\\1\xa0", text)
    return [line.replace("\xa0", " ") for line in textwrap.wrap(together, width, break_on_hyphens=False)] or [""]


def _line(cells: list[tuple[str, int]]) -> str:
    return (" " * GAP).join(text.ljust(width) for text, width in cells).rstrip()


def _widths(shown: list[str], natural: dict[str, int], least: dict[str, int], width: int) -> dict[str, int]:
    """The width of each column: what is left over goes to those that need it, a character each in turn."""
    widths = {name: least[name] for name in shown}
    left = width - sum(widths.values()) - GAP * (len(shown) - 1)
    growing = [name for name in shown if widths[name] < natural[name]]
    while left > 0 and growing:
        share = max(1, left // len(growing))
        for name in growing:
            step = min(share, natural[name] - widths[name], left)
            widths[name] += step
            left -= step
        growing = [name for name in growing if widths[name] < natural[name]]
    return widths
