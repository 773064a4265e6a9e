"""A run does not enter a folder that another process works in, but waits for one that only looks whether it is used."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness import cli
from harness.runs import resolve, run
from harness.runs.status import IN_USE, lock_of
from harness.testing import tiny_dataset
from tests.helpers.run_folders import record_of

WORDS = ["run", "cifarfs_delay5", "--method", "chance", "--test-episodes", "2", "--no-board", "--run", "mine"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)


def test_a_look_whether_a_folder_is_in_use_keeps_no_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = FileLock(lock_of(Path("mine")), thread_local=False)
    check = run.check_place

    def checked(*given: Any) -> None:
        """What comes just before a run enters its folder."""
        check(*given)
        looking.acquire()
        threading.Timer(0.1, looking.release).start()

    monkeypatch.setattr(run, "check_place", checked)
    assert cli.main(WORDS) == 0
    assert record_of(Path("mine")).run != ""


def test_who_works_in_a_folder_does(capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(lock_of(Path("mine"))):
        assert cli.main(WORDS) == 2
    assert IN_USE in " ".join(capsys.readouterr().err.split())
    assert not Path("mine").exists()
