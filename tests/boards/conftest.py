"""Shared by the tests of what happens to a finished run: a tiny data set, and a run of a built-in method."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.api import verify
from harness.boards import submit
from harness.runs import resolve
from harness.testing import tiny_dataset
from tests.helpers.submissions import PROTOCOL, finished


@pytest.fixture
def tiny_board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (resolve, submit, verify):
        monkeypatch.setattr(module, "load_dataset", lambda name, *_, **__: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(PROTOCOL)


@pytest.fixture(scope="session")
def opn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a built-in method with weights."""
    folder = tmp_path_factory.mktemp("opn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolve, "load_dataset", lambda name, *_, **__: tiny_dataset(name, classes=8, images=10))
        patch.chdir(folder)
        Path("tiny.yaml").write_text(PROTOCOL)
        return folder / finished("opn")


@pytest.fixture
def run(opn: Path, tmp_path: Path) -> Path:
    """A copy of that run that a test may spoil."""
    return Path(shutil.copytree(opn, tmp_path / "runs" / "tiny" / opn.name))
