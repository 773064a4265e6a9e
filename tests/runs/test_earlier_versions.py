"""Runs that were begun before their method got another option: it is found again, and its default is what they had."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from harness import cli
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.training import reporter

METHOD = """from methods.opn import OPN


class Mine(OPN):
    def __init__(self, task, channels: int = 4, sizes: tuple[int, ...] = (2, 3)%s) -> None:
        super().__init__(task, channels=channels)
"""
EARLIER, LATER = METHOD % "", METHOD % ", slope: float = 0.5"
RECIPE = """method: Mine
parts:
  - when: {kind: [delayed_label]}
    quick:
      batch: 2
      optimizer: {name: adam, lr: 1e-3}
      stages: [{name: all, episodes: 8}]
"""
WORDS = ["run", "cifarfs_delay5", "--method", "mine.py:Mine", "--recipe", "mine.yaml", "--test-episodes", "4"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run of an earlier version of the method, cut off after a part of its training."""
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(RECIPE)
    Path("mine.py").write_text(EARLIER)
    with monkeypatch.context() as patch:

        def interrupting(self: reporter.Reporter, state: reporter.Progress, *rest: object) -> None:
            if state.episodes >= 4:
                os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(reporter.Reporter, "training", interrupting)
        assert cli.main([*WORDS, "--quiet"]) == 130
    Path("mine.py").write_text(LATER)


def folders() -> list[Path]:
    return sorted(path for path in Path("runs").glob("*/*") if path.is_dir())


def episodes_of(folder: Path) -> int:
    return int(json.loads((folder / "record.json").read_text())["train_episodes"])


def test_a_run_goes_on_and_is_then_found_finished(capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = folders()
    assert cli.main([*WORDS, "--no-board"]) == 2  # as for any unfinished run
    assert "add --resume to go on with it" in capsys.readouterr().err
    assert cli.main([*WORDS, "--resume", "--no-board"]) == 0
    assert folders() == [folder]
    record = json.loads((folder / "record.json").read_text())
    assert record["train_episodes"] == 8
    assert record["options"]["slope"] == 0.5
    capsys.readouterr()
    assert cli.main([*WORDS, "--no-board"]) == 0
    assert "not repeated" in capsys.readouterr().err


def test_another_value_of_the_new_option_is_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "--set", "slope=0.25", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "there is no unfinished run to resume" in error
    assert "options.slope: there 0.5, asked for 0.25" in error
    assert "options.sizes" not in error


def test_the_run_of_the_latest_version_is_taken_and_none_that_was_set_aside() -> None:
    (folder,) = folders()
    shutil.copytree(folder, folder.with_name(f"{folder.name}.old-1"))
    latest = folder.with_name(folder.name[:-10] + "0123456789")
    shutil.copytree(folder, latest)
    noted = json.loads((latest / "run.json").read_text())
    noted["identity"]["options"]["slope"] = 0.5
    (latest / "run.json").write_text(json.dumps(noted))
    assert cli.main([*WORDS, "--resume", "--no-board", "--quiet"]) == 0
    assert episodes_of(latest) == 8
    assert not (folder / "record.json").exists()


def test_begun_again_it_has_a_folder_of_its_own() -> None:
    (folder,) = folders()
    assert cli.main([*WORDS, "--fresh", "--no-board", "--quiet"]) == 0
    (own,) = set(folders()) - {folder}
    assert episodes_of(own) == 8
    assert not (folder / "record.json").exists()


def test_a_damaged_note_beside_it_is_no_obstacle() -> None:
    (folder,) = folders()
    other = folder.with_name(folder.name[:-10] + "0123456789")
    other.mkdir()
    (other / "run.json").write_text("[]")
    assert cli.main([*WORDS, "--resume", "--no-board", "--quiet"]) == 0
    assert episodes_of(folder) == 8


def test_a_version_that_computes_something_else_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = folders()
    Path("mine.py").write_text(LATER.replace("class Mine(OPN):\n", "class Mine(OPN):\n    version = 2\n"))
    assert cli.main([*WORDS, "--resume"]) == 2
    assert "method_version: there None, asked for 2" in capsys.readouterr().err
    assert cli.main([*WORDS, "--no-board", "--quiet"]) == 0
    (own,) = set(folders()) - {folder}
    assert episodes_of(own) == 8
    assert json.loads((own / "record.json").read_text())["method_version"] == 2
