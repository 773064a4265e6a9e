"""README and CONTRIBUTING say what is so: code runs as written, and commands are ones the parser takes."""

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

ROOT = Path(__file__).parent.parent


def blocks(file: str) -> list[tuple[str, str]]:
    """Language and text of the code blocks of a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


BLOCKS = blocks("README.md")


def block(kind: str, first_line: str) -> str:
    (found,) = [text for language, text in BLOCKS if language == kind and text.startswith(first_line)]
    return found


def test_the_method_in_the_readme_passes_the_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(block("python", "# mine.py"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", "mine.py:NewestMean"]) == 0
    assert "failed" not in capsys.readouterr().out


def test_the_run_in_the_readme_goes_through_from_python(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    exec(compile(block("python", "# one_run.py"), "one_run.py", "exec"), {})
    accuracy, *shapes, passed = capsys.readouterr().out.splitlines()
    mean, interval = map(float, accuracy.split())
    assert 20 < mean < 60
    assert interval > 0
    assert shapes == ["(50, 32, 3, 32, 32) (50, 32)"] * 2
    assert passed == "True"


def test_the_property_test_in_the_readme_passes_and_can_fail(tmp_path: Path) -> None:
    text = block("python", "# test_mine.py")
    assert len(text.splitlines()) <= 22
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


def test_the_protocol_in_the_readme_is_the_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(block("yaml", "# protocols/cifarfs_delay5.yaml"))
    shown, shipped = load_protocol(path).protocol, load_protocol("cifarfs_delay5").protocol
    assert shown.model_dump(exclude={"published", "notes"}) == shipped.model_dump(exclude={"published", "notes"})


def commands(file: str) -> list[str]:
    lines = [line for language, text in blocks(file) if language == "bash" for line in text.splitlines()]
    found = [part.split("#")[0].strip() for line in lines for part in re.split(r"&&|>", line) if "harness " in part]
    return [re.sub(r"^\S*harness ", "", part) for part in found]


@pytest.mark.parametrize("words", [*commands("README.md"), *commands("CONTRIBUTING.md")])
def test_every_command_that_is_shown_is_one_the_parser_takes(words: str) -> None:
    name, *rest = shlex.split(words)
    module, line = cli.COMMANDS[name]
    parser = Parser(prog=name, description=line)
    importlib.import_module(module).add_arguments(parser)
    assert parser.parse(rest) is not None


def test_there_are_commands_to_check() -> None:
    assert len(commands("README.md")) >= 9
    assert len(commands("CONTRIBUTING.md")) >= 7
    for file, names in (
        ("README.md", {"run", "list", "validate", "schema", "export", "check", "submit", "verify", "compare"}),
        ("CONTRIBUTING.md", {"new-method", "check", "run", "submit", "verify", "compare"}),
    ):
        assert names <= {words.split()[0] for words in commands(file)}
