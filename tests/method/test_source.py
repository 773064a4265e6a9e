"""The hash of a method's source: its own file and what it uses, and nothing else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.method.registry import load_method, method_names
from harness.method.source import source_files, source_hash

MINE = """\
from harness import Method
import numpy
from my_helper import THING
from my_package import layers


class Mine(Method):
    def start(self, episodes):
        from late import NEVER
"""
FILES = {
    "mine.py": MINE,
    "my_helper.py": "import my_other\nTHING = 1\n",
    "my_other.py": "import my_helper\n",
    "my_package/__init__.py": "",
    "my_package/layers.py": "from . import blocks\nfrom .deeper.far import X\n",
    "my_package/blocks.py": "Y = 1\n",
    "my_package/deeper/far.py": "from ..blocks import Y\nX = 1\n",
    "late.py": "NEVER = 1\n",
    "unused.py": "",
}
USED = {
    *("mine", "my_helper", "my_other", "my_package", "my_package.layers", "my_package.blocks"),
    *("my_package.deeper.far", "late"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [
        each for each in sys.modules if each.partition(".")[0] in {"late", "my_helper", "my_other", "my_package"}
    ]:
        del sys.modules[name]


def test_every_file_that_a_users_file_imports_is_part_of_it(folder: Path) -> None:
    assert set(source_files(folder / "mine.py")) == USED


@pytest.mark.parametrize("name", FILES)
def test_the_hash_changes_with_what_is_used_alone(
    name: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = source_hash(folder / "mine.py")
    moved = Path(shutil.copytree(folder, tmp_path_factory.mktemp("elsewhere") / "copy"))
    assert source_hash(moved / "mine.py") == before
    (folder / name).write_text(FILES[name] + "# changed\n")
    assert (source_hash(folder / "mine.py") != before) == (name != "unused.py")


def test_a_method_of_several_files_can_be_loaded(folder: Path) -> None:
    loaded = load_method(f"{folder / 'mine.py'}:Mine")
    assert loaded.own_file == folder / "mine.py"
    assert loaded.source_hash == source_hash(folder / "mine.py")


def test_a_class_cannot_say_that_it_is_of_another_file(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE + "Mine.__module__ = 'methods.opn'\n")
    assert load_method(f"{folder / 'mine.py'}:Mine").own_file == folder / "mine.py"


@pytest.mark.parametrize("name", [name for name in method_names() if name in {"opn", "cl_lstm", "llama"}])
def test_the_source_of_a_built_in_method_is_its_file_and_its_layers(name: str) -> None:
    loaded = load_method(name)
    files = source_files(loaded.own_file, loaded.cls.__module__)
    assert f"methods.{name}" in files
    assert all(each.startswith("methods.") for each in files), "the list of all methods is not part of one"
    assert any(each.startswith("methods.nn") for each in files)
