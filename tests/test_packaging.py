"""The wheel holds what an installed harness needs: protocols, recipes, papers' tables, and the rows of the boards."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT = 2_000_000
"""Bytes of a wheel at most: scores and weights of rows stay in the repository."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="wheels are built with hatchling")
    out = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=ROOT, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


def test_the_wheel_has_every_file_that_is_looked_up(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    looked_up = (
        ("protocols", "*.yaml", "harness/shipped_files/protocols"),
        ("methods/recipes", "**/*.yaml", "methods/recipes"),
        ("harness/tables/papers", "*.yaml", "harness/tables/papers"),
        ("harness/data/splits", "*.txt", "harness/data/splits"),
        ("leaderboards", "*.jsonl", "harness/shipped_files/leaderboards"),
        ("leaderboards", "stand_in/*.jsonl", "harness/shipped_files/leaderboards"),
        ("harness/method/template", "*", "harness/method/template"),
    )
    for folder, pattern, inside in looked_up:
        paths = [each.relative_to(ROOT / folder) for each in (ROOT / folder).glob(pattern) if each.is_file()]
        assert paths, folder
        assert not [each for each in paths if f"{inside}/{each.as_posix()}" not in names]
    assert {"harness/py.typed", "methods/py.typed"} <= names


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < LIMIT
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".npz", ".safetensors"))]


def test_an_installed_harness_works_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """The wheel unpacked in a place of its own; other packages are those at hand."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()

    def harness(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness", *words],
            cwd=tmp_path / "empty",
            env={"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    board = harness("board", "cifarfs_delay5")
    assert board.returncode == 0, board.stderr
    assert "cl_lstm" in board.stdout
    assert "only read" in harness("board", "cifarfs_delay5", "--write").stderr
    recipe = harness("recipe", "cifarfs_delay5", "--method", "cl_lstm")
    assert str(tmp_path / "site") in recipe.stdout
    assert not list((tmp_path / "empty").iterdir())
