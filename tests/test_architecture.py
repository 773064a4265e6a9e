"""The floors of `harness/`: an import never runs back up, and nothing imports itself in a circle (pyproject.toml)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "harness" / "method" / "template"


def test_the_contracts_of_imports_hold() -> None:
    # In a process of its own: it sets up logging and turns off every logger that there is.
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_of_the_harness_goes_through_its_public_names() -> None:
    """They lead to every floor, so an import of them would run back up unseen by the contracts.

    The template of `harness new-method` is written as its author will have it.
    """
    through = {
        f"{path.relative_to(ROOT)}: {alias.name}"
        for package in ("harness", "methods")
        for path in (ROOT / package).rglob("*.py")
        if TEMPLATE not in path.parents and path != ROOT / "harness" / "__init__.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "harness"
        for alias in node.names
    }
    assert through == {"harness/cli/__init__.py: __version__"}


def test_no_module_is_longer_than_can_be_read_at_one_sitting() -> None:
    """300 lines; a longer one has two subjects."""
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for package in ("harness", "methods")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 300} == {}
