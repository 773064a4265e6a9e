"""Values that no option can have: each command refuses them in a sentence, and shows no traceback."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from harness import cli
from harness.cli.parser import Parser
from harness.util.shown_text import shortened
from tests.helpers.commands import ended

NUMBERS = ("-1", "nan", "1e999", "x")
"""What counts nothing."""

COUNTS = [
    ("run cifarfs_delay5 --method count --dry-run", ("--episodes", "--test-episodes", "--threads", "--seeds")),
    ("run cifarfs_delay5 --method opn --dry-run", ("--lr", "--batch", "--time", "--override")),
    ("recipe cifarfs_delay5 --method opn", ("--lr", "--batch", "--threads")),
    ("show cifarfs_delay5", ("--episode", "--seed")),
    ("export cifarfs_delay5 --out x.jsonl", ("--episodes", "--seed")),
    ("verify cifarfs_delay5 --list", ("--row", "--episodes", "--threads")),
    ("sweep smoke_all --dry-run", ("--jobs", "--time")),
    ("view", ("--port",)),
]


def refused(*words: str) -> None:
    done = ended(*words)
    assert done.code == 2, words
    assert done.err.startswith("harness: error: "), words
    assert len(done.err.splitlines()) <= 2, words
    assert len(done.err) < 900, words


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command, options in COUNTS for option in options]
)
def test_a_number_that_is_none_is_refused(command: str, option: str) -> None:
    for value in NUMBERS:
        refused(*command.split(), f"{option}={value}")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_an_empty_value_is_refused_by_every_option_of_a_command(name: str) -> None:
    module, line = cli.COMMANDS[name]
    parser = Parser(prog=name, description=line)
    importlib.import_module(module).add_arguments(parser)
    for option in (each.option_strings[-1] for each in parser._actions if each.option_strings and each.nargs != 0):
        refused(name, f"{option}=")
        refused(name, option, "")
    refused(name, "")


@pytest.mark.parametrize("name", ["board", "show", "validate", "check", "submit", "new-method"])
def test_what_was_typed_is_repeated_in_short(name: str) -> None:
    for value in ("x" * 5000, "a\0b"):
        done = ended(name, value)
        assert done.code in (1, 2)
        assert len(done.err) < 1200, done.err[:300]


def test_a_word_is_cut_in_its_middle() -> None:
    assert shortened("one " + "a" * 200 + "b" * 200 + " two") == f"one {'a' * 140} ... {'b' * 140} two"
    assert shortened("a" * 299) == "a" * 299
