"""What `harness new-method` writes passes the linter and the formatter of the project, whatever its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.method.template import LONGEST, write_method
from harness.util.errors import UserError

ROOT = Path(__file__).parents[2]
NAMES = ("a", "x1", "class_", "a__b", "fast_weights", "matching", "zz", "m" * LONGEST, "_".join("m" * 20) + "m")


def test_what_is_written_passes_lint_and_format(tmp_path: Path) -> None:
    """Seen as in a checkout, where `harness` is a package of the project and the new file is none yet."""
    for number, name in enumerate(NAMES):
        write_method(name, tmp_path / str(number))
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(tmp_path)]
    modules = (f"first-party={['harness']}", f"third-party={list(NAMES)}")
    known = [word for each in modules for word in ("--config", f"lint.isort.known-{each}")]
    for words in (["check", *known], ["format", "--check"]):
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
