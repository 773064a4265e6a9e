"""README, CONTRIBUTING and docs/ say what is so: code runs as written, and commands are ones the parser takes."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from harness.cli.parser import Parser
from harness.protocol.load import load_protocol
from tests.helpers.readme_results import in_readme, results_table

ROOT = Path(__file__).parent.parent


def blocks(file: str) -> list[tuple[str, str]]:
    """Language and text of the code blocks of a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


METHODS = "docs/methods_of_your_own.md"
PAGES = ("README.md", "CONTRIBUTING.md", "docs/data.md", "docs/how_to.md", METHODS, "docs/protocols.md", "docs/runs.md")


def block(file: str, kind: str, first_line: str) -> str:
    (found,) = [text for language, text in blocks(file) if language == kind and text.startswith(first_line)]
    return found


def test_the_readme_is_short_and_has_the_results_of_the_boards_as_they_are() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 1200
    assert in_readme() == results_table(), "python -m tests.helpers.readme_results writes the table again"


def test_the_method_on_the_page_of_methods_passes_the_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(block(METHODS, "python", "# mine.py"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", "mine.py:NewestMean"]) == 0
    assert "failed" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_run_in_the_readme_goes_through_from_python(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    exec(compile(block("README.md", "python", "# one_run.py"), "one_run.py", "exec"), {})
    accuracy, *shapes, passed = capsys.readouterr().out.splitlines()
    mean, interval = map(float, accuracy.removesuffix(" %").split(" ± "))
    assert 20 < mean < 60
    assert interval > 0
    assert shapes == ["(50, 32, 3, 32, 32) (50, 32)"] * 2
    assert passed == "True"


@pytest.mark.slow
def test_the_property_test_on_that_page_passes_and_can_fail(tmp_path: Path) -> None:
    text = block(METHODS, "python", "# test_mine.py")
    assert len(text.splitlines()) <= 22
    assert "deadline=None" in text, (
        "Hypothesis gives an example 200 ms, and the first one takes longer on a busy machine"
    )
    broken = text.replace("protocol.label_delay)", "protocol.label_delay + 1)")
    assert broken != text
    for name, source, code in (("test_mine.py", text, 0), ("test_broken.py", broken, 1)):
        (tmp_path / name).write_text(source)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/protocols.md"])
def test_the_protocol_that_is_shown_is_the_shipped_one(page: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(block(page, "yaml", "# protocols/cifarfs_delay5.yaml"))
    shown, shipped = load_protocol(path).protocol, load_protocol("cifarfs_delay5").protocol
    assert shown.model_dump(exclude={"published", "notes"}) == shipped.model_dump(exclude={"published", "notes"})


def commands(file: str) -> list[str]:
    lines = [line for language, text in blocks(file) if language == "bash" for line in text.splitlines()]
    found = [part.split("#")[0].strip() for line in lines for part in re.split(r"&&|>", line) if "harness " in part]
    return [re.sub(r"^.*?\S*harness ", "", part) for part in found if part]


@pytest.mark.parametrize("words", dict.fromkeys(words for page in PAGES for words in commands(page)))
def test_every_command_that_is_shown_is_one_the_parser_takes(words: str) -> None:
    name, *rest = shlex.split(words.replace("$SLURM_ARRAY_TASK_ID $RESUME", "0"))
    module, line = cli.COMMANDS[name]
    parser = Parser(prog=name, description=line)
    importlib.import_module(module).add_arguments(parser)
    assert parser.parse(rest) is not None


def test_there_are_commands_to_check() -> None:
    shown = {words.split()[0] for page in PAGES for words in commands(page)}
    assert shown >= {"run", "list", "show", "validate", "lint", "schema", "export", "board"}
    assert shown >= {"new-method", "check", "submit", "verify", "compare"}
