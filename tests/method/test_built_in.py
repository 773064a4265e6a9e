"""Built-in methods are found beside a user's own folder or file `methods`; methods of several files work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.method.registry import load_method
from harness.util.errors import UserError

ROOT = Path(__file__).parents[2]
LOAD = "from harness.method.registry import load_method; print(load_method('count').cls.__module__)"
OWN = "from harness import Method\n\n\nclass Own(Method):\n    '''Mine.'''\n"


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """In a process whose import path begins with the folder, as a notebook's does."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["file", "package", "package with a method"])
@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_a_users_own_methods_hide_nothing(tmp_path: Path, form: str, first: str) -> None:
    if form == "file":
        (tmp_path / "methods.py").write_text("OWN = 7\n")
    else:
        (tmp_path / "methods").mkdir()
        (tmp_path / "methods" / "__init__.py").write_text("OWN = 7\n")
        (tmp_path / "methods" / "own.py").write_text(OWN)
    theirs = "import methods; assert methods.OWN == 7; "
    if form == "package with a method":
        theirs += "from methods.own import Own; "
    done = run(tmp_path, f"{theirs}{LOAD}" if first == "theirs" else f"{LOAD}; {theirs}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "methods.count\n"


def test_a_module_that_hides_a_built_in_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").touch()
    (tmp_path / "methods" / "count.py").touch()
    done = run(tmp_path, LOAD)
    assert "methods/count.py has the name of the package 'methods'" in done.stderr
    assert "takes the place of the built-in methods.count" in done.stderr
    (tmp_path / "methods" / "__init__.py").write_text("raise ValueError('not yet')")
    done = run(tmp_path, LOAD)
    assert "importing it raised ValueError: not yet" in done.stderr
    (tmp_path / "methods" / "__init__.py").write_text("raise SystemExit('a script')")
    done = run(tmp_path, LOAD)
    assert "importing it raised SystemExit: a script" in done.stderr


@pytest.mark.parametrize("how", ["beside it", "in its package"])
def test_a_method_may_be_of_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / f"several_{how.split()[0]}"
    folder.mkdir()
    (folder / "parts_of_several.py").write_text("WIDTH = 5\n")
    dot = "." if how == "in its package" else ""
    (folder / "whole.py").write_text(f"from {dot}parts_of_several import WIDTH\n{OWN}    width = WIDTH\n")
    if how == "in its package":
        with pytest.raises(UserError, match=r"its folder is no package: add an empty\s+__init__.py"):
            load_method(f"{folder}/whole.py:Own")
        (folder / "__init__.py").touch()
    loaded = load_method(f"{folder}/whole.py:Own")
    assert vars(loaded.cls)["width"] == 5
    before = loaded.source_hash
    (folder / "parts_of_several.py").write_text("WIDTH = 6\n")
    assert loaded.source_hash != before
