"""Text of others is shown as text: on a terminal, in Markdown and in JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.util.shown_text import cells_in_markdown, in_json, in_line, in_markdown, shown

STEERING = ["\x1b[31m", "\x00", "\x07", "\x7f", "\x9b32m", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800"]


@pytest.mark.parametrize("steering", STEERING)
def test_what_steers_a_terminal_is_spelt_out(steering: str) -> None:
    for show in (shown, in_line, in_markdown):
        text = show(f"a{steering}b")
        assert steering[0] not in text
        assert text.startswith("a\\")
        assert text.endswith("b")
    assert json.loads(in_json({"text": f"a{steering}b"})) == {"text": f"a{steering}b"}
    assert steering[0] not in in_json({"text": f"a{steering}b"})


def test_lines_stay_lines_where_there_may_be_several_and_become_blanks_elsewhere() -> None:
    assert shown("a\nb\tc\r\nd") == "a\nb\tc\nd"
    assert in_line("a\nb\u2028c\x85d\r\n  e") == "a b c d e"
    assert in_markdown("a\n# Heading") == "a # Heading"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cl_lstm, widths=[64, 96] · 5 % — ½", "cl_lstm, widths=[64, 96] · 5 % — ½"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("[z](javascript:9)", "[z\\](javascript:9)"),
        ("![i](http://127.0.0.1/x.png)", "![i\\](http://127.0.0.1/x.png)"),
        ("[a][b] [c]: d", "[a\\][b] [c\\]: d"),
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
    ],
)
def test_markdown_begins_neither_cells_nor_html_nor_links(text: str, wanted: str) -> None:
    assert in_markdown(text) == wanted


@given(st.lists(st.text() | st.text(" a\n|<][(:\t\xa0é", max_size=4), max_size=4))
def test_many_cells_are_each_as_one_alone(cells: list[str]) -> None:
    assert list(cells_in_markdown(cells)) == [in_markdown(each) for each in cells]


@given(st.text())
def test_nothing_that_steers_is_left_of_any_text(text: str) -> None:
    for show in (shown, in_line, in_markdown):
        assert not any((ord(each) < 32 and each not in "\n\t") or 127 <= ord(each) < 160 for each in show(text))
    assert "\n" not in in_line(text)
    assert json.loads(in_json([text])) == [text]
