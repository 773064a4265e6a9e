"""Mutations of texts and bytes: what an editor, a merge, a bad disk or a careless script does to a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import strategies as st

SCALE = int(os.environ.get("FUZZ", "1"))
"""How many times as many cases are tried as in CI; more than 1 also draws new ones every time."""

AWKWARD = (
    *(
        "",
        "~",
        "null",
        "true",
        "no",
        "0",
        "-1",
        "1",
        "2.5",
        "1e400",
        "-0",
        "010",
        "0x1F",
        "1:30",
        "1_000",
        ".nan",
        ".inf",
    ),
    *("9" * 19, "9" * 300, "100000", "2147483648", "4294967296", "9223372036854775807", "1e-320", "NaN", "-5"),
    *("[]", "{}", "[[]]", "{a: 1}", "[1, two, 3.0]", "['a', 'a']", "''", "'x'", '"\\u0000"', '"\\ud800"', "'a\n b'"),
    *("*here", "&here x", "!!python/object:os.system x", "!t x", "<<", "@home", "%a", "- a", "a: b", "? x", "| x", "#"),
    *(
        "é",
        "日本",
        "\U0001f600",
        "x" * 300,
        "../up",
        "/",
        "~nobody/x",
        "mine.yaml",
        "parent.yaml",
        "C:\\x",
        "omniglot",
        "supervised",
        "cifar_fs",
        "2026-01-01",
        "0.1e",
    ),
)
PIECES = (
    *(
        "\t",
        "\x00",
        "\x07",
        "\x1b",
        "\x7f",
        "\x85",
        "\u2028",
        "\ufeff",
        "\r",
        "\r\n",
        "\n\n",
        "\n",
        " ",
        "  ",
        ":",
        ": ",
    ),
    *(
        "-",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "'",
        '"',
        "#",
        "&a ",
        "*a",
        "<<: *a",
        "!x ",
        "|",
        ">",
        "?",
        "%",
        "@",
        "`",
        "---\n",
    ),
    *("...\n", "&a {x: *a}", "\n  ", "\n- ", "[" * 900, "{a: " * 400, "\ud7ff", "\u0301", "extends: ", "kind: ", "~"),
)


def settings(cases: int) -> Callable[[Any], Any]:
    """So many cases in CI, the same every time; FUZZ=20 tries twenty times as many new ones."""
    return hypothesis.settings(
        max_examples=cases * SCALE,
        derandomize=SCALE == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )


@st.composite
def mutated_text(draw: st.DrawFn, text: str) -> str:
    """The text after one to four mutations of its lines, its values or its characters."""
    for _ in range(draw(st.integers(1, 4))):
        text = draw(st.sampled_from(_TEXT_MUTATIONS))(draw, text)
    return text


def _line(draw: st.DrawFn, lines: list[str]) -> int:
    return draw(st.integers(0, max(0, len(lines) - 1)))


def _lines(draw: st.DrawFn, text: str) -> str:
    """A line deleted, doubled, moved, or put twice as far in or out."""
    lines = text.split("\n")
    at, to = _line(draw, lines), _line(draw, lines)
    how = draw(st.sampled_from(["delete", "double", "swap", "move", "indent", "tab", "outdent", "cut"]))
    if how == "delete":
        del lines[at]
    elif how == "double":
        lines.insert(to, lines[at])
    elif how == "swap":
        lines[at], lines[to] = lines[to], lines[at]
    elif how == "move":
        lines.insert(to, lines.pop(at))
    elif how == "indent":
        lines[at] = " " * draw(st.integers(1, 5)) + lines[at]
    elif how == "tab":
        lines[at] = "\t" + lines[at]
    elif how == "outdent":
        lines[at] = lines[at].removeprefix(" " * draw(st.integers(1, 4)))
    else:
        lines = lines[:at]
    return "\n".join(lines)


_VALUE = re.compile(r"(?<=[:\[,]) *([^\s:,\[\]{}#][^\n,\]}#]*)")
_KEY = re.compile(r"[a-z_]+(?=:)")


def _value(draw: st.DrawFn, text: str) -> str:
    """A value replaced by one that is hard to read, or by another value of the file."""
    found = list(_VALUE.finditer(text))
    if not found:
        return text + draw(st.sampled_from(AWKWARD))
    hit = draw(st.sampled_from(found))
    new = draw(st.sampled_from(AWKWARD) | st.sampled_from([each[1] for each in found]))
    return text[: hit.start(1)] + new + text[hit.end(1) :]


def _key(draw: st.DrawFn, text: str) -> str:
    """A key misspelt, taken away, or replaced by another of the file."""
    found = list(_KEY.finditer(text))
    if not found:
        return text
    hit = draw(st.sampled_from(found))
    new = draw(st.sampled_from([each[0] for each in found]) | st.sampled_from(["", "x", hit[0][1:], hit[0] + "s", "é"]))
    return text[: hit.start()] + new + text[hit.end() :]


def _characters(draw: st.DrawFn, text: str) -> str:
    """Something put in, or a stretch taken out, anywhere."""
    at = draw(st.integers(0, len(text)))
    taken = draw(st.sampled_from([0, 0, 1, 3, 50]))
    put = draw(st.sampled_from(PIECES) | st.sampled_from(AWKWARD) | st.just(""))
    return text[:at] + put + text[at + taken :]


def _whole(draw: st.DrawFn, text: str) -> str:
    """Everything: emptied, doubled, a mark of byte order, other line ends, wrapped."""
    how = draw(st.sampled_from(["empty", "twice", "bom", "crlf", "list", "deep", "anchored"]))
    if how == "empty":
        return draw(st.sampled_from(["", "\n", "# nothing\n", "---\n", "{}", "[]", "null", " "]))
    if how == "twice":
        return text + text
    if how == "bom":
        return "\ufeff" + text
    if how == "crlf":
        return text.replace("\n", "\r\n")
    if how == "list":
        return "- " + text.replace("\n", "\n  ")
    if how == "deep":
        depth = draw(st.sampled_from([5, 100, 1000]))
        return f"{text}\nnotes: {'[' * depth}{']' * depth}\n"
    return (
        f"a: &a [{', '.join(['x'] * 9)}]\nb: &b [{', '.join(['*a'] * 9)}]\n{text}\nnotes: [{', '.join(['*b'] * 9)}]\n"
    )


_TEXT_MUTATIONS = [_lines, _lines, _value, _value, _value, _key, _characters, _characters, _whole]


@st.composite
def mutated_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes after one to three mutations: cut, flipped, blanked, doubled, or something else in their place."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(whole) - 1)))
        how = draw(st.sampled_from(["cut", "flip", "flip", "zeros", "insert", "remove", "double", "replace"]))
        if how == "cut":
            whole = whole[:at]
        elif how == "flip":
            whole = whole[:at] + bytes([(whole[at] if whole else 0) ^ (1 << draw(st.integers(0, 7)))]) + whole[at + 1 :]
        elif how == "zeros":
            whole = whole[:at] + bytes(min(50, len(whole) - at)) + whole[at + 50 :]
        elif how == "insert":
            whole = whole[:at] + draw(st.binary(min_size=1, max_size=8)) + whole[at:]
        elif how == "remove":
            whole = whole[:at] + whole[at + draw(st.sampled_from([1, 2, 40])) :]
        elif how == "double":
            whole = whole[:at] + whole
        else:
            whole = draw(
                st.sampled_from([b"", b"\n", b"{}", b"[]", b"null", b"\xff\xfe", b"0", b"[" * 5000, b"PK\x03\x04"])
            )
    return whole
