"""Training without scoring (`run --train-only`), which a search of hyperparameters is made of, and its mark."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from harness.cli import main
from harness.evaluation import evaluate as evaluation
from tests.helpers import runs as tiny_runs

WORDS = tiny_runs.words("late", "--data", "stand-in", "--boards", "boards", "--quiet")


def last_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_training_scores_no_test_episode_and_its_run_goes_on_to_the_record_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_runs.written(tmp_path))
    splits: list[str] = []
    for module in ("harness.runs.run", "harness.training.selection"):
        real = evaluation.evaluate

        def noted(
            method: Any, source: Any, protocol: Any, split: str, *more: Any, _real: Any = real, **named: Any
        ) -> Any:
            splits.append(split)
            return _real(method, source, protocol, split, *more, **named)

        monkeypatch.setattr(f"{module}.evaluate", noted)
    assert main([*WORDS, "--train-only", "--json"]) == 0
    (trained,) = last_json(capsys)
    assert set(splits) == {"validation"}
    folder = tiny_runs.run_folder()
    assert str(folder) == trained["folder"]
    assert trained["episodes"] == 16
    assert json.loads((folder / "run.json").read_text())["status"] == "trained"
    assert not (folder / "record.json").exists()
    assert not (folder / "scores.npz").exists()
    assert not Path("boards").exists()

    assert main(WORDS) == 2
    assert (
        "a run that is trained and not scored; add --resume, and leave out --train-only, to score it"
        in capsys.readouterr().err
    )
    assert main([*WORDS, "--resume", "--searched", "7", "--json"]) == 0
    (record,) = last_json(capsys)["records"]
    assert "hyperparameters searched: 7 trials" in record["marks"]
    assert main([*WORDS, "--out", "alone", "--json"]) == 0
    (alone,) = last_json(capsys)["records"]
    assert record["metrics"] == alone["metrics"]
    assert [each for each in record["marks"] if "searched" not in each] == alone["marks"]


@pytest.mark.slow
def test_a_trained_run_whose_checkpoint_was_not_copied_is_not_trained_again_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_runs.written(tmp_path))
    assert main([*WORDS, "--train-only"]) == 0
    folder = tiny_runs.run_folder()
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / "checkpoint.safetensors").unlink()
    for more in ([], ["--train-only"]):
        assert main([*WORDS, *more, "--resume"]) == 2
        assert "checkpoint.safetensors is missing, though the run was trained" in capsys.readouterr().err
    assert (folder / "weights.safetensors").read_bytes() == weights


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--train-only", "--searched=3"])
def test_a_method_without_parameters_has_nothing_to_search(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_runs.written(tmp_path))
    words = ["run", "late.yaml", "--method", "copy_last", "--budget", "smoke", "--data", "stand-in", "--cache", "cache"]
    assert main([*words, option]) == 2
    assert f"{option.partition('=')[0]}: budget smoke of copy_last trains nothing" in capsys.readouterr().err


def test_options_of_training_that_do_nothing_are_named_and_weights_for_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_runs.written(tmp_path))
    words = ["run", "late.yaml", "--method", "copy_last", "--data", "stand-in", "--cache", "cache", "--no-board"]
    words += ["--test-episodes", "3", "--no-check", "--threads", "1"]
    changed = ["--lr", "0.1", "--override", "ema_decay=0.9", "--precision", "bf16", "--episodes", "5"]
    assert main([*words, *changed]) == 0
    said = capsys.readouterr().err
    for each in ("--lr", "--override", "--precision", "--episodes"):
        assert f"{each} has no effect: copy_last trains nothing" in said
    assert main([*words, "--init", str(tiny_runs.run_folder())]) == 2
    assert "--init: copy_last has no weights that could be loaded" in capsys.readouterr().err


class Killed(BaseException):
    pass


@pytest.mark.parametrize("end", [KeyboardInterrupt, Killed])
def test_a_method_that_is_not_trained_goes_on_where_its_scoring_was_stopped(
    end: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a run has a file of weights, if an empty one, and never had a checkpoint."""
    monkeypatch.chdir(tiny_runs.written(tmp_path))
    words = ["run", "late.yaml", "--method", "nearest_pixel", "--data", "stand-in", "--threads", "1", "--no-check"]
    words += ["--cache", "cache", "--no-board"]
    with monkeypatch.context() as patched, contextlib.suppress(Killed):
        patched.setattr("harness.runs.run.evaluate", Mock(side_effect=end))
        assert main(words) == 130
    folder = tiny_runs.run_folder()
    assert (folder / "weights.safetensors").is_file()
    assert not (folder / "checkpoint.safetensors").exists()
    capsys.readouterr()
    assert main([*words, "--resume"]) == 0
    assert "begins anew" not in capsys.readouterr().err
    assert (folder / "record.json").is_file()
