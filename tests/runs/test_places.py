"""Where a run may be: nothing that no run has written is moved, written into, or left with files beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import cli
from harness.runs import resolve
from harness.testing import tiny_dataset
from tests.helpers.run_folders import record_of

WORDS = ["run", "cifarfs_delay5", "--method", "chance", "--test-episodes", "2", "--no-board"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name, classes=8, images=10))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "pictures").mkdir()
    (here / "pictures/bird.png").write_bytes(b"a bird")
    (here / "mine.yaml").write_text("extends: cifarfs_delay5\ntitle: mine\n")
    (here / "lost").symlink_to("nowhere")


@pytest.mark.parametrize("fresh", [[], ["--fresh"]], ids=["", "fresh"])
@pytest.mark.parametrize("place", ["pictures", "mine.yaml", "lost", ".", "..", "pictures/..", "mine.yaml/run"])
def test_what_no_run_has_written_stays_as_it_is(
    place: str, fresh: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert cli.main([*WORDS, "--run", place, *fresh]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert place in error
    assert "can be set aside from elsewhere" not in error
    assert sorted(tmp_path.rglob("*")) == before
    assert Path("pictures/bird.png").read_bytes() == b"a bird"


def test_nothing_is_left_where_there_is_nothing_to_resume(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert cli.main([*WORDS, "--run", "new/run", "--resume"]) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_taken_and_a_run_in_it_set_aside() -> None:
    Path("mine").mkdir()
    assert cli.main([*WORDS, "--run", "mine"]) == 0
    assert cli.main([*WORDS, "--run", "mine", "--fresh"]) == 0
    assert record_of(Path("mine.old-1")).run != ""
    assert record_of(Path("mine")).run != ""


def test_what_was_set_aside_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--fresh"]):
        assert cli.main([*WORDS, "--run", "mine", *words]) == 0
    assert "what was in mine is in mine.old-1" in capsys.readouterr().err


@pytest.mark.parametrize("fresh", [[], ["--fresh"]], ids=["", "fresh"])
def test_the_empty_folder_that_one_works_in_is_taken(fresh: list[str]) -> None:
    Path("mine").mkdir()
    os.chdir("mine")
    assert cli.main([*WORDS, "--run", ".", *fresh]) == 0
    assert record_of(Path()).run == "mine"


def test_a_run_is_read_and_resumed_from_within_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "--run", "mine"]) == 0
    os.chdir("mine")
    before = (Path("record.json")).read_bytes()
    assert cli.main([*WORDS, "--run", "."]) == 0
    assert "is not repeated" in capsys.readouterr().err
    assert cli.main([*WORDS, "--run", ".", "--fresh"]) == 2
    assert "the folder that you work in" in capsys.readouterr().err
    assert Path("record.json").read_bytes() == before


def test_a_run_whose_method_answers_nothing_has_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """It had begun: its folder is there, and its exit code is that of a run that failed."""
    Path("none.py").write_text(
        "from harness import Method\n\n\nclass Nothing(Method):\n    kinds = ('delayed_label',)\n"
    )
    words = ["run", "cifarfs_delay5", "--method", "none.py:Nothing", "--test-episodes", "2", "--no-board"]
    assert cli.main([*words, "--run", "mine"]) == 1
    assert capsys.readouterr().err.endswith("harness: error: Nothing does not define start()\n")
    assert '"failed"' in Path("mine/run.json").read_text()


def test_a_finished_run_is_not_taken_for_one_of_a_method_that_was_edited_since(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its row would say that the new code passed the checks, beside the scores of the old."""
    code = "from methods.count import Count\n\n\nclass Mine(Count):\n    pass\n"
    Path("own.py").write_text(code)
    words = ["run", "cifarfs_delay5", "--method", "own.py:Mine", "--test-episodes", "2", "--no-board", "--run", "done"]
    assert cli.main(words) == 0
    assert cli.main(words) == 0
    before = Path("done/record.json").read_bytes()
    Path("own.py").write_text(code.replace("pass", "version = 1"))
    capsys.readouterr()
    assert cli.main(words) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "own.py, or a file that it imports, has changed since the run in done was finished with it" in error
    assert "--fresh runs it again" in error
    assert Path("done/record.json").read_bytes() == before
    assert cli.main([*words, "--fresh"]) == 0
    assert Path("done/record.json").read_bytes() != before
