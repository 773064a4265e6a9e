"""What `harness new-method` writes passes linter and formatter, in a checkout and elsewhere, whatever its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.method.template import LONGEST, write_method
from harness.util.errors import UserError

ROOT = Path(__file__).parents[2]
NAMES = ("a", "x1", "class_", "a__b", "fast_weights", "matching", "zz", "m" * LONGEST, "_".join("m" * 16) + "m")
RULES = "E,F,W,I,B,UP,SIM,RUF,PT,C4"


@pytest.mark.parametrize("into", [".", "src", "own"])
@pytest.mark.parametrize("place", ["an empty folder", "a project", "a checkout"])
def test_what_is_written_passes_lint_and_format(into: str, place: str, tmp_path: Path) -> None:
    """In the working directory or below it: beside nothing, beside settings of one's own (with ruff's own width of
    lines), and as in a checkout, with the project's settings and `harness` a package of it."""
    settings = ["--no-cache", "."]
    if place == "a checkout":
        (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
        for module in ("__init__.py", "training/__init__.py", "training/episode_loss.py"):
            (tmp_path / "harness" / module).parent.mkdir(exist_ok=True)
            (tmp_path / "harness" / module).touch()
    elif place == "a project":
        (tmp_path / "pyproject.toml").write_text("[tool.ruff]\ntarget-version = 'py311'\n", "utf-8")
    else:
        settings = ["--isolated", *settings]
    for name in NAMES:
        write_method(name, tmp_path / into)
    rules = [] if place == "a checkout" else ["--select", RULES]
    for words in (["check", *rules], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, *settings]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "name", ["json", "torch", "harness", "m" * (LONGEST + 1), "class", "Fast", "fast-weights", "_"]
)
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name"):
        write_method(name, tmp_path)
    assert not list(tmp_path.iterdir())
