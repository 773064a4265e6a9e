"""The pages of docs/ name what is there: paths exist, dotted names can be imported, terms are those of the code."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from harness import cli
from harness.method.registry import method_names
from harness.protocol.load import load_protocol
from harness.protocol.models import KINDS
from harness.records import marks
from harness.training.recipe import Stage
from harness.training.recipe_file import load_budget
from harness.util.shipped_files import protocol_files

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/data.md",
    "docs/glossary.md",
    "docs/methods_of_your_own.md",
    "docs/protocols.md",
    "docs/report.md",
    "docs/runs.md",
    "docs/sweeps.md",
    "docs/tutorial.md",
    "docs/how_to.md",
    "docs/index.md",
    "docs/scoring.md",
    "docs/walkthrough.md",
)
TOP = {path.name for path in ROOT.iterdir() if path.is_dir()} & {"harness", "methods", "protocols", "tests", "docs"}
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def quoted(page: str) -> list[str]:
    """What stands in backquotes on a page, outside of its code blocks."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def resolved(name: str) -> object:
    """What a dotted name stands for; the longest part of it that is a module is imported."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(name)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    """Those of the example in CONTRIBUTING.md are still to be written."""
    named = [each for each in quoted(page) if each.split("/")[0] in TOP and re.fullmatch(r"[\w./-]+", each)]
    missing = [each for each in named if not (ROOT / each).exists() and "fast_weights" not in each]
    assert not missing
    assert len(named) > 20 or page != "docs/architecture.md"


def test_every_test_that_a_page_names_exists() -> None:
    named = [each.split("::") for page in PAGES for each in quoted(page) if "::" in each]
    missing = [name for file, name in named if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")]
    assert not missing
    assert len(named) > 15


@pytest.mark.parametrize("page", PAGES)
def test_every_dotted_name_on_a_page_can_be_imported(page: str) -> None:
    for name in quoted(page):
        if re.fullmatch(r"harness(\.\w+)+", name) and name != "harness.methods":  # the group of entry points
            assert resolved(name) is not None


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_is_one(page: str) -> None:
    found = {words.split()[1] for words in quoted(page) if re.match(r"harness [a-z]", words)}
    assert found <= set(cli.COMMANDS)


def test_the_glossary_has_every_mark() -> None:
    every = {value for name, value in vars(marks).items() if name.isupper() and isinstance(value, str)}
    assert every
    assert not [mark for mark in every if f"`{mark}" not in GLOSSARY]


def test_the_glossary_has_every_metric_kind_and_objective() -> None:
    names = set(KINDS) | set(get_args(Stage.model_fields["objective"].annotation))
    for name in protocol_files():
        protocol = load_protocol(name).protocol
        names |= {re.sub(r"@shot=\d+", "@shot=k", each) for each in (protocol.ranking, *protocol.reported)}
    assert not [name for name in names if f"`{name}`" not in GLOSSARY]


def test_the_baselines_are_methods() -> None:
    (line,) = [line for line in GLOSSARY.splitlines() if line.startswith("| baseline |")]
    assert set(re.findall(r"`(\w+)`", line)) <= set(method_names())


@pytest.mark.slow
def test_the_kind_in_the_walkthrough_runs(tmp_path: Path, cache: Path) -> None:
    """In a process of its own, since it registers the kind for good."""
    text = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    for name in ("palindrome.py", "palindrome.yaml"):
        (block,) = re.findall(rf"^```\w+\n(# {name}\n.*?)^```", text, re.MULTILINE | re.DOTALL)
        (tmp_path / name).write_text(block)
    script = (
        "import sys, harness; sys.path.insert(0, '.'); import palindrome;"
        f"result = harness.run('palindrome.yaml', 'count', test_episodes=50, cache={str(cache)!r}, board=False);"
        "print(result.metrics['accuracy'].mean)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 25 < float(done.stdout) < 45


def test_the_recipe_of_the_docs_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```yaml\n(# mine\.yaml\n.*?)```", text, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(recipe, encoding="utf-8")
    found = load_budget(tmp_path / "mine.yaml", load_protocol("miniimagenet_5way_1shot"), "quick")
    assert [stage.name for stage in found.stages] == ["2 ways", "3 ways", "the protocol"]
