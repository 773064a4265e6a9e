"""Values that no option can have: each command refuses them in a sentence, and shows no traceback."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from harness import cli
from harness.cli.parser import Parser
from harness.util.shown_text import shortened
from tests.helpers.commands import ended

NUMBERS = ("-1", "nan", "1e999", "x", "1_000", "\u0663", "9" * 400, "--")
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


LONG = "x" * 5000
PATHS = [
    ("board", "--boards", (LONG, "file", "missing", "/dev/null")),
    ("compare cifarfs_delay5 opn count", "--boards", (LONG, "file", "missing")),
    ("table norml 2", "--boards", (LONG, "file", "missing")),
    ("verify cifarfs_delay5 --list", "--boards", (LONG, "file", "missing")),
    ("report cifarfs_delay5", "--out", (LONG, "file", "file/x")),
    ("schema", "--out", (f"{LONG}.json", "file", "file/x.json", "folder.json")),
    ("export cifarfs_delay5", "--out", ("file", "folder.json")),
    ("new-method fast_weights", "--into", (LONG, "file", "file/x")),
    ("run cifarfs_delay5 --method opn --dry-run", "--recipe", (LONG, "file", "missing", "/dev/null", "folder.json")),
    ("run cifarfs_delay5 --method opn --dry-run", "--init", (LONG, "missing", "/dev/null", "folder.json")),
    ("validate", "", (LONG, "missing", "folder.json", "file")),
    ("show", "", (LONG, "missing", "folder.json", "file")),
    ("submit", "", (LONG, "missing", "folder.json", "file")),
    ("sweep --dry-run", "", (LONG, "missing", "folder.json", "file")),
]
"""Files and folders that cannot be those that an option names."""


@pytest.mark.parametrize(("command", "option", "values"), PATHS, ids=lambda each: each if isinstance(each, str) else "")
def test_a_path_that_cannot_be_the_one_meant_is_wrong_use(command: str, option: str, values: tuple[str, ...]) -> None:
    Path("file").write_bytes(bytes(range(256)))
    Path("folder.json").mkdir()
    for value in values:
        done = ended(*command.split(), f"{option}={value}" if option else value)
        assert done.code == 2, (command, option, value[:20], done)
        assert len(done.err) < 900, done.err[:300]
    assert sorted(path.name for path in Path().iterdir() if path.name not in {"runs"}) == ["file", "folder.json"]


CHOICES = [
    ("lint cifarfs_delay5 --json", "--data", "REAL"),
    ("recipe cifarfs_delay5 --method OPN --json", "--budget", "Quick"),
    ("list --json", "", "Methods"),
    ("list protocols --json", "--kind", "Delayed_Label"),
    ("show CIFARFS_DELAY5 --json", "--split", "Train"),
    ("schema", "", "RECIPE"),
]


@pytest.mark.parametrize(("command", "option", "value"), CHOICES)
def test_names_and_choices_may_be_in_any_capitals(command: str, option: str, value: str) -> None:
    words = [*command.split(), *([option] if option else [])]
    assert ended(*words, value).code == 0
    assert ended(*words, value.lower()).out == ended(*words, value).out


def test_options_of_a_method_that_cannot_be_read_name_what_to_write() -> None:
    for value, said in {
        "x": "--set is 'x'; write it as NAME=VALUE",
        "=1": "--set is '=1'",
        "channels=1e400": "--set channels: 1e400 is too large",
        "channels=nan": "option channels: ",
        "CHANNELS=8": "Did you mean 'channels'?",
    }.items():
        done = ended("run", "cifarfs_delay5", "--method", "opn", "--dry-run", "--set", value)
        assert (done.code, said in done.err) == (2, True), done.err


def test_a_folder_with_control_characters_is_spelt_out() -> None:
    done = ended("new-method", "fast_weights", "--into", "a\x1b[31m b")
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "python -m pytest 'a\\x1b[31m b/test_fast_weights.py'" in done.out


@pytest.mark.parametrize("name", ["board", "show", "validate", "check", "submit", "new-method"])
def test_what_was_typed_is_repeated_in_short(name: str) -> None:
    for value in ("x" * 5000, "a\0b"):
        done = ended(name, value)
        assert done.code in (1, 2)
        assert len(done.err) < 1200, done.err[:300]


def test_a_word_is_cut_in_its_middle() -> None:
    assert shortened("one " + "a" * 200 + "b" * 200 + " two") == f"one {'a' * 140} ... {'b' * 140} two"
    assert shortened("a" * 299) == "a" * 299
