"""From a method of one's own to a row: what submit takes, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.boards import submit
from harness.evaluation import evaluate
from harness.runs.folder import RECORD, SCORES
from harness.testing import tiny_dataset
from harness.util.tensor_files import sha256_of
from tests.helpers.submissions import (
    BOARD,
    HERE,
    MINE,
    RUN,
    better_scores,
    finished,
    other_weights,
    raise_scores,
    rewritten,
    rows,
    submitted,
    verify,
)

pytestmark = pytest.mark.usefixtures("tiny_board")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files that `harness new-method mine` writes."""
    folder = tmp_path_factory.mktemp("mine")
    assert cli.main(["new-method", "mine", "--into", str(folder)]) == 0
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_method_of_ones_own_goes_from_new_method_to_a_verified_row(
    mine: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in mine.items():
        Path(name).write_text(text)
    folder = finished(MINE)
    assert submitted(folder) == 2
    assert f"--method {MINE}" in capsys.readouterr().err  # nothing is imported that the user does not name
    assert submitted(folder, "--method", MINE, "--dry-run") == 0
    assert not BOARD.exists()
    assert submitted(folder, "--method", MINE, where="") == 0
    said = capsys.readouterr().out
    for what in ("files:", "numbers:", "board:", "rules:", "scores:", "every score the same to the last bit"):
        assert what in said
    (row,) = rows()
    assert row.kept == "checkpoints"
    assert row.method_file == sha256_of(Path("mine.py"))
    assert verify() == 0
    assert "not re-scored" in capsys.readouterr().out
    assert verify("--row", "1") == 3  # asked for, and not done
    for where in (HERE, "--fresh-workers"):
        assert verify("--row", "1", "--method", MINE, where=where) == 0
        assert "same: accuracy" in capsys.readouterr().out
    Path("renamed.py").write_text(mine["mine.py"])
    assert verify("--row", "1", "--method", "renamed.py:Mine") == 3
    assert "renamed.py is not named mine.py, or imports other files" in capsys.readouterr().out
    Path("mine.py").write_text(mine["mine.py"] + "\n# another file\n")
    assert verify("--row", "1", "--method", MINE) == 3
    assert "not the file that the row was made with" in capsys.readouterr().out


@pytest.mark.slow
def test_the_skeleton_passes_its_own_test(mine: dict[str, str]) -> None:
    for name, text in mine.items():
        Path(name).write_text(text)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout
    wrong = mine["mine.py"].replace('state["sums"] + added', 'state["sums"] + 2 * added')
    assert wrong != mine["mine.py"]
    Path("mine.py").write_text(wrong)
    assert subprocess.run([*words, "-k", "plain_means"], capture_output=True).returncode == 1


def test_new_method_overwrites_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("fast_weights.yaml").write_text("mine")
    assert cli.main(["new-method", "fast_weights"]) == 2
    assert "exist already" in capsys.readouterr().err
    assert Path("fast_weights.yaml").read_text() == "mine"
    assert not Path("fast_weights.py").exists()
    for name in ("FastWeights", "2fast", "class", "fast-weights", "../fast"):
        assert cli.main(["new-method", name]) == 2
        assert "cannot be a method's name" in capsys.readouterr().err


@pytest.mark.slow
def test_submit_tells_over_how_many_episodes_the_metric_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert submitted(run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert "over 12 episodes, as the scores say" in " ".join(found["checks"])
    assert (found["method"], found["board"]) == ("opn", str(BOARD.with_suffix(".md")))


def _better_mean(folder: Path) -> None:
    record = json.loads((folder / "record.json").read_text())
    record["metrics"]["accuracy"]["mean"] += 1
    rewritten(folder, metrics=record["metrics"])


def _retold(name: str, **values: Any) -> Any:
    """A spoiler that changes entries of one part of the record."""

    def spoil(folder: Path) -> None:
        record = json.loads((folder / "record.json").read_text())
        rewritten(folder, **{name: {**record[name], **values}})

    return spoil


def _narrower(folder: Path) -> None:
    record = json.loads((folder / "record.json").read_text())
    record["metrics"]["accuracy"]["interval"] /= 2
    rewritten(folder, metrics=record["metrics"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: other_weights(folder, False), "is not the file that the record names"),
        (lambda folder: other_weights(folder, True), "the weights do not give the scores"),
        (lambda folder: better_scores(folder, False), "metrics are not those of its scores"),
        (lambda folder: better_scores(folder, True), "the weights do not give the scores"),
        (_better_mean, "metrics are not those of its scores: accuracy is"),
        (_narrower, "metrics are not those of its scores: accuracy is"),
        (_retold("curves", by_shot=[100.0, 100.0]), "the curve 'by_shot' is another"),
        (lambda folder: rewritten(folder, marks=[]), "marks: [] in the record, ['label delay told'] found"),
        (lambda folder: rewritten(folder, train_episodes=1), "training episodes: 1 in the record"),
        (_retold("cost", parameters=3), "parameters: 3 in the record"),
        (_retold("cost", gflop_per_step=0.0), "gflop_per_step: 0.0 in the record"),
        (_retold("cost", state_bytes=8), "state_bytes: 8 in the record"),
        (lambda folder: rewritten(folder, seed=7), "seed: there 0, asked for 7"),
        (lambda folder: rewritten(folder, options={"channels": 9}), "options"),
        (lambda folder: rewritten(folder, digest="0" * 64), "digest"),
        (lambda folder: (folder / SCORES).unlink(), "scores.npz is missing"),
        (lambda folder: rewritten(folder, scores=None), "from before scores were named"),
    ],
)
def test_what_does_not_hold_is_not_taken(
    spoil: Any, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(run)
    assert submitted(run) in {2, 3}
    assert message in capsys.readouterr().err
    assert not BOARD.exists()


def test_a_record_that_was_edited_is_neither_submitted_nor_published(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = finished("opn")
    path = folder / RECORD
    path.write_text(path.read_text().replace('"label delay told"', ""))
    assert submitted(folder) == 3
    assert cli.main([*RUN, "--method", "opn"]) == 2
    assert capsys.readouterr().err.count(f"{path} was changed after the run") == 2
    assert not BOARD.exists()


def test_a_partial_test_and_other_data_are_not_taken(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = finished("opn", "--test-episodes", "6")
    assert submitted(part) == 3
    assert "6 test episodes were scored; the board asks for 12" in capsys.readouterr().err
    monkeypatch.setattr(submit, "load_dataset", lambda name, *_, **__: tiny_dataset(name, classes=8, images=9))
    assert submitted(run) == 3
    assert "other data" in capsys.readouterr().err


@pytest.mark.slow
def test_a_method_that_breaks_the_rules_is_not_taken(mine: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in mine.items():
        Path(name).write_text(text)
    leaking = mine["mine.py"].replace(
        "found = self.net(x)", "found = self.net(x)\n        found = found - found.mean(0)"
    )
    assert leaking != mine["mine.py"]
    Path("mine.py").write_text(leaking)
    folder = finished(MINE)
    assert submitted(folder, "--method", MINE) == 3
    said = capsys.readouterr().err
    assert "breaks the rules" in said
    assert "cross-talk" in said
    assert not BOARD.exists()


def _forged_tail(folder: Path) -> None:
    """Better scores of all but the first batch, with every number and hash made to fit."""
    raise_scores(folder, slice(-2, None))


@pytest.mark.parametrize("words", [["--full"], []])
def test_scores_that_were_raised_at_the_end_alone_are_found_out(
    words: list[str], run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "_conforms", lambda *_: None)
    monkeypatch.setattr(evaluate, "BATCH", 2)
    monkeypatch.setattr(submit, "SAMPLE", 2)
    monkeypatch.setattr(evaluate.random, "SystemRandom", lambda: _Last())
    _forged_tail(run)
    assert submitted(run, *words) == 3
    assert "the weights do not give the scores of this run" in capsys.readouterr().err


class _Last:
    """Chance that always falls on the last batch, which the submitter hoped nobody would look at."""

    def sample(self, population: Any, count: int) -> list[int]:
        return list(population)[-count:]


def test_a_run_that_was_finished_in_the_future_is_not_taken(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewritten(run, finished="9999-01-01T00:00:00Z")
    assert submitted(run) == 3
    assert "finished in the future" in capsys.readouterr().err


def test_a_place_that_keeps_no_weights_is_refused_before_anything_is_scored(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert submitted(run, "--store", "ftp://x") == 2
    said = capsys.readouterr()
    assert "--store is 'ftp://x'; it can be 'checkpoints'" in said.err
    assert not said.out
