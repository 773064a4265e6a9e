"""The marks on pages have the words of the glossary."""

from __future__ import annotations

import re
from pathlib import Path

from harness.records import marks
from harness.report.marks import MEANINGS, explained

GLOSSARY = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")


def test_every_mark_of_the_glossary_has_its_words() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", GLOSSARY.partition("## Marks")[2], re.MULTILINE)
    words = {name: words.replace("`", "") for names, words in rows for name in re.findall(r"`([^`]+)`", names)}
    assert len(words) > 10
    for name, meaning in words.items():
        assert explained(name.replace("N older", "2 older")).meaning == meaning, name


def test_every_mark_in_the_code_is_explained() -> None:
    every = {value for name, value in vars(marks).items() if name.isupper() and isinstance(value, str)}
    assert every <= MEANINGS.keys()
    assert explained("skips check: trainable").kind == "skips check"
    assert explained("3 older not shown").kind == "older not shown"
    assert explained("of my own").kind == "others"
