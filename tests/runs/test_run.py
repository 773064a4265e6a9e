"""Runs from the command line, on a tiny data set in place of the real one."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from harness import cli
from harness.protocol import base, load
from harness.records.record import Record
from harness.runs import resolve, run
from harness.testing import tiny_dataset
from harness.training import loop, reporter
from harness.util import arithmetic
from tests.helpers.run_folders import WORDS, record_of, the_run


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)


def without_times(record: Record) -> dict[str, object]:
    return record.model_dump(exclude={"finished", "train_seconds", "score_seconds", "command", "code"})


@pytest.mark.parametrize("shipped", [True, False], ids=["a shipped protocol", "a file of one's own"])
def test_runs_of_two_seeds_read_their_protocol_once_and_compute_its_digest_once(
    shipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def counted(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def counting(*given: Any, **named: Any) -> Any:
            calls[name] += 1
            return function(*given, **named)

        monkeypatch.setattr(module, name, counting)

    counted(load, "validated")
    counted(base, "_digest")
    load._read_shipped.cache_clear()
    text = "extends: cifarfs_delay5\ntitle: mine\nepisode: {presentations: 9}\n"
    Path("mine.yaml").write_text(text)
    protocol = "cifarfs_delay5" if shipped else "mine.yaml"
    assert cli.main(["run", protocol, "--method", "chance", "--seeds", "0-1", "--test-episodes", "2"]) == 0
    assert calls == {"validated": 1, "_digest": 1}


@pytest.mark.slow
def test_a_run_leaves_its_record_scores_and_weights_and_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "--show-board"]) == 0
    folder = the_run()
    record = record_of(folder)
    assert (record.protocol, record.method, record.budget, record.seed) == ("cifarfs_delay5", "cl_lstm", "smoke", 0)
    assert record.marks == ["features pre-trained on classes", "partial test"]
    assert record.options["channels"] == 4
    assert record.train_episodes == 16
    assert record.test_episodes == 6
    scores = np.load(folder / "scores.npz")
    assert scores["by_step"].shape == (6, 50)
    shown = scores["right"][:, 6] / scores["count"][:, 6]
    assert record.metrics["accuracy@shot=6"].mean == pytest.approx(100 * shown.mean())
    assert (folder / "weights.safetensors").is_file()
    assert Path("leaderboards/cifarfs_delay5.jsonl").is_file()
    printed = capsys.readouterr().out
    assert "cl_lstm" in printed
    assert "57.4" in printed  # the published row


@pytest.mark.slow
def test_the_log_of_a_training_is_json_to_the_letter_with_a_loss_once_there_is_one() -> None:
    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert cli.main([*WORDS, "--no-board"]) == 0
    lines = (the_run() / "log.jsonl").read_text().splitlines()
    entries = [json.loads(line, parse_constant=refused) for line in lines]
    validations = [entry for entry in entries if entry["event"] == "validation"]
    started = [entry for entry in entries if entry["event"] == "stage" and entry["episodes"] < entries[-1]["episodes"]]
    assert validations
    assert all(entry["loss"] > 0 for entry in validations)
    assert started
    assert all(entry["loss"] is None for entry in started)


@pytest.mark.slow
def test_a_finished_run_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(WORDS) == 0
    weights = the_run() / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    for words in (WORDS, [*WORDS, "--episodes", "4000"]):
        assert cli.main(words) == 0, "a limit that the recipe does not come to is none"
        assert weights.stat().st_mtime_ns == before
    assert len(Path("leaderboards/cifarfs_delay5.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_limit_that_ends_nothing_is_not_on_the_row() -> None:
    assert cli.main([*WORDS, "--no-board", "--episodes", "4000"]) == 0
    assert record_of(the_run()).budget_cut == ""
    assert cli.main([*WORDS, "--no-board"]) == 0


@pytest.mark.slow
def test_a_finished_run_without_its_record_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "--no-board"]) == 0
    record = the_run() / "record.json"
    record.unlink()
    assert cli.main(WORDS) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{record} is missing, though the run was finished; copy it as well, or run again with --fresh" in said


@pytest.mark.slow
def test_what_was_finished_in_a_precision_that_is_not_here_goes_on_a_board(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of a GPU, published from a laptop."""
    words = [*WORDS, "--precision", "tf32"]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(arithmetic, "check_precision", lambda *_: None)
        assert cli.main([*words, "--no-board"]) == 0
    assert cli.main(words) == 0
    (row,) = Path("leaderboards/cifarfs_delay5.jsonl").read_text().splitlines()
    assert json.loads(row)["precision"] == "tf32"
    for refused in ([*words, "--fresh"], [*words, "--seed", "1"]):
        assert cli.main(refused) == 2
        assert "precision 'tf32' cannot be used on device 'cpu'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_what_was_trained_in_a_precision_that_is_not_here_is_scored_here_and_names_its_device(
    precision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--precision", precision, "--no-board"]
    monkeypatch.setattr(arithmetic, "available", lambda _: ["fp32"])
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(arithmetic, "check_precision", lambda *_: None)
        elsewhere.setattr(loop, "name_of", lambda _: "NVIDIA H200")
        assert cli.main([*words, "--train-only", "--episodes", "6"]) == 0
    trained = the_run() / "weights.safetensors"
    before = trained.read_bytes()
    assert cli.main([*words, "--resume", "--episodes", "6"]) == 0
    record = record_of(the_run())
    assert record.precision == precision
    assert "trained on NVIDIA H200" in record.marks
    assert trained.read_bytes() == before


@pytest.mark.slow
def test_what_a_gpu_began_is_trained_to_its_end_where_its_precision_may_be_done_without(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for precision, seed in (("tf32", "0"), ("bf16", "1")):
        words = [*WORDS, "--precision", precision, "--seed", seed, "--no-board"]
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(arithmetic, "check_precision", lambda *_: None)
            elsewhere.setattr(loop, "name_of", lambda _: "NVIDIA H200")
            assert cli.main([*words, "--train-only", "--episodes", "6"]) == 0
        capsys.readouterr()
        monkeypatch.setattr(arithmetic, "available", lambda _: ["fp32"])
        status = cli.main([*words, "--resume"])
        said = " ".join(capsys.readouterr().err.split())
        if precision == "bf16":
            assert status == 2
            assert "precision 'bf16' cannot be used on device 'cpu'" in said
        else:
            assert status == 0
            assert "tf32 is a mode of GPUs: what is left to train is done in fp32 on cpu" in said
            record = record_of(the_run())
            assert "trained on NVIDIA H200 and cpu" in record.marks
            assert record.train_episodes > 6


@pytest.mark.slow
def test_the_same_command_elsewhere_gives_the_same_record() -> None:
    for out in ("one", "two"):
        assert cli.main([*WORDS, "--out", out, "--no-board"]) == 0
    one, two = (the_run(Path(out)) for out in ("one", "two"))
    assert without_times(record_of(one)) == without_times(record_of(two))
    for name, values in np.load(one / "scores.npz").items():
        assert np.array_equal(values, np.load(two / "scores.npz")[name])


@pytest.mark.slow
def test_ctrl_c_saves_says_how_to_go_on_and_resuming_gives_the_same_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*WORDS, "--out", "whole", "--no-board"]) == 0
    with monkeypatch.context() as patch:
        plain = reporter.Reporter.training

        def interrupting(self: reporter.Reporter, state: reporter.Progress, *rest: object) -> None:
            plain(self, state, *rest)  # type: ignore[arg-type]
            if state.updates == 2 and rest[-1] == "update":
                os.kill(os.getpid(), signal.SIGINT)

        patch.setattr(reporter.Reporter, "training", interrupting)
        assert cli.main([*WORDS, "--out", "cut", "--no-board"]) == 130
    assert "--resume" in capsys.readouterr().err
    assert json.loads((the_run(Path("cut")) / "run.json").read_text())["status"] == "interrupted"
    assert cli.main([*WORDS, "--out", "cut", "--no-board"]) == 2
    refused = capsys.readouterr().err
    assert "unfinished run (interrupted)" in refused
    assert "--resume" in refused
    assert "--fresh" in refused
    assert cli.main([*WORDS, "--out", "cut", "--no-board", "--resume"]) == 0
    assert without_times(record_of(the_run(Path("cut")))) == without_times(record_of(the_run(Path("whole"))))


def test_killed_while_scoring_it_scores_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "evaluate", killed)
        assert cli.main([*WORDS, "--no-board"]) == 130
    assert not (the_run() / "record.json").exists()
    assert cli.main([*WORDS, "--no-board", "--resume"]) == 0
    assert record_of(the_run()).train_episodes == 16


def test_a_folder_of_another_run_is_refused_with_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["harness", *WORDS])
    assert cli.main([*WORDS, "--run", "here", "--no-board"]) == 0
    other = [word.replace("cifarfs_delay5", "cifarfs_delay4") for word in WORDS]
    changes = ["--set", "lstm=20", "--seed", "3"]
    assert cli.main([*other, *changes, "--run", "here", "--no-board", "--resume"]) == 2
    message = capsys.readouterr().err
    assert "protocol: there 'cifarfs_delay5', asked for 'cifarfs_delay4'" in message
    assert "options.lstm: there 16, asked for 20" in message
    assert "seed: there 0, asked for 3" in message
    assert "begun by: harness run cifarfs_delay5 --method cl_lstm" in message
    assert record_of(Path("here")).protocol == "cifarfs_delay5"


def test_a_folder_that_is_no_run_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("all my work")
    assert cli.main([*WORDS, "--run", "thesis"]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert [path.name for path in Path("thesis").iterdir()] == ["chapter.tex"]


@pytest.mark.slow
def test_fresh_sets_the_old_run_aside() -> None:
    for _ in range(2):
        assert cli.main([*WORDS, "--no-board", "--fresh"]) == 0
    names = sorted(path.name for path in Path("runs/cifarfs_delay5").iterdir() if path.is_dir())
    assert len(names) == 2
    assert names[1] == f"{names[0]}.old-1"
    assert (Path("runs/cifarfs_delay5") / names[1] / "record.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--test-episodes", "2001"], "--test-episodes is 2001; the whole test of cifarfs_delay5 has 2000"),
        (["--method", "cl_lsm"], "Did you mean 'cl_lstm'"),
        (["--set", "chanels=3"], "Did you mean 'channels'"),
        (["--set", "channels=wide"], "channels"),
        (["--set", "channels=-3"], "CLLSTM: option channels must be at least 1, found -3"),
        (["--seed", str(2**63)], "a seed is a whole number below 2^63"),
        (["--seed", str(2**64)], "a seed is a whole number below 2^63"),
        (["--resume"], "there is no unfinished run to resume in runs/cifarfs_delay5/cl_lstm-smoke-s0-"),
        (["--device", "gpu"], "device 'gpu' cannot be used"),
        (["--time", "soon"], "90s, 10m or 2h"),
        (["--seeds", "a"], "0, 0-2 or 0,3,7"),
        (["--episodes", "0"], "a whole number from 1 to"),
        (["--init", "nowhere"], "no weights at nowhere"),
        (["--recipe", "nowhere.yaml"], "nowhere.yaml"),
        (["--set", "resolution=4"], "vanish"),
    ],
)
def test_wrong_use_is_explained_without_a_traceback(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*WORDS, *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not Path("leaderboards").exists()


def test_a_method_without_parameters_needs_no_training_and_keeps_no_checkpoint() -> None:
    assert cli.main([*WORDS, "--method", "count"]) == 0
    record = record_of(the_run())
    assert (record.train_episodes, record.budget, record.recipe, record.checkpoint) == (0, "", "", None)
    assert record.cost.parameters == 0


@pytest.mark.slow
def test_a_method_told_the_delay_is_marked() -> None:
    assert cli.main([*WORDS, "--method", "opn"]) == 0
    assert "label delay told" in record_of(the_run()).marks
    bytes_per_pending = record_of(the_run()).cost.state_bytes
    assert bytes_per_pending > 5 * 32 * 4


SKIPPING = """from methods.count import Count


class Skipping(Count):
    skips = {"%s": "a fixed rule"}
"""


@pytest.mark.slow
def test_a_check_that_the_method_declares_to_skip_is_a_mark_on_its_row() -> None:
    Path("mine.py").write_text(SKIPPING % "label timing")
    assert cli.main([*WORDS, "--method", "mine.py:Skipping"]) == 0
    assert "skips check: label timing" in record_of(the_run()).marks


def test_a_run_of_a_method_that_skips_what_it_must_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(SKIPPING % "no anticipation")
    assert cli.main([*WORDS, "--method", "mine.py:Skipping"]) == 2
    assert "'no anticipation' cannot be skipped" in capsys.readouterr().err


@pytest.mark.slow
def test_several_seeds_are_several_runs_and_one_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "--seeds", "0-1"]) == 0
    rows = [json.loads(line) for line in Path("leaderboards/cifarfs_delay5.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [0, 1]


@pytest.mark.slow
def test_the_command_of_a_row_gives_the_limits_that_ended_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last part of the run was given lower ones, which it was past."""

    def stop(*given: Any) -> None:
        if given[0].updates == 3:
            os.kill(os.getpid(), signal.SIGINT)

    words = [*WORDS, "--no-board"]
    with monkeypatch.context() as interrupted:
        interrupted.setattr(reporter.Reporter, "training", lambda _, *given: stop(*given))
        interrupted.setattr("sys.argv", ["harness", *words])
        assert cli.main(words) == 130
    words += ["--time", "0.001s", "--resume"]
    monkeypatch.setattr("sys.argv", ["harness", *words])
    assert cli.main(words) == 0
    record = record_of(the_run())
    assert record.train_updates == 3
    assert record.budget_cut == f"episodes={record.train_episodes}"
    assert record.command == f"harness {' '.join(WORDS)} --episodes {record.train_episodes}"


def test_a_precision_that_was_forgotten_is_named_and_so_is_the_same_run_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    words = [*WORDS, "--no-board", "--precision", "bf16"]
    with monkeypatch.context() as interrupted:
        interrupted.setattr(reporter.Reporter, "training", stop)
        assert cli.main([*words, "--run", "runs/cifarfs_delay5/mine"]) == 130
    capsys.readouterr()
    assert cli.main([*WORDS, "--no-board", "--run", "runs/cifarfs_delay5/mine", "--resume"]) == 2
    assert "precision: there 'bf16', asked for 'fp32'" in capsys.readouterr().err
    assert cli.main([*words, "--resume"]) == 2
    message = capsys.readouterr().err
    assert "runs/cifarfs_delay5/mine (interrupted)" in message
    assert "this very run: add --run runs/cifarfs_delay5/mine" in message
