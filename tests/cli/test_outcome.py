"""The end of `harness run`: what it prints, once and again; --resume, limits, --dry-run, boards of generated data."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from harness import cli
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.training import reporter
from harness.util.tensor_files import save_tensors

WORDS = ["run", "cifarfs_delay5", "--budget", "smoke", "--test-episodes", "6", "--threads", "1"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)
    Path("six.yaml").write_text("extends: cifarfs_delay5\ntitle: six\nscoring: {test_episodes: 6}\n")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert cli.main(list(words)) == 0
    return capsys.readouterr().out


def rows(text: str) -> dict[str, str]:
    return dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in text.splitlines()[1:])


@pytest.mark.slow
def test_the_last_lines_tell_metrics_seeds_rank_difference_and_record(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", "six.yaml", "--threads", "1"]
    first = rows(printed(capsys, *words, "--method", "chance", "--seeds", "0,3"))
    assert first["accuracy"].endswith("%, 6 test episodes")
    assert {"accuracy@shot=6", "accuracy@shot=7", "accuracy@shot=8"} <= first.keys()
    assert first["seeds"].startswith("0, 3 (standard deviation of accuracy ")
    assert first["rank"] == "1 of 1 on leaderboards/six.md"
    assert "against" not in first
    assert re.match(r"(count|copy_last|majority) \d+\.\d\d ± ", first["without images"])
    later = rows(printed(capsys, *words, "--method", "chance", "--seeds", "5"))
    assert re.fullmatch(
        r"0, 3, 5 \(standard deviation of accuracy .*\); seeds 0, 3 from other runs on the board", later["seeds"]
    )
    assert re.fullmatch(r"seed 5: accuracy \d+\.\d\d %", later["this run"])
    assert "this run" not in first
    text = printed(capsys, *words, "--method", "count")
    second = rows(text)
    assert re.fullmatch(r"[12]=? of 2 on leaderboards/six.md", second["rank"])
    assert second["against"].startswith("chance, the best of the other rows: ")
    assert re.search(r": [+-]\d+\.\d\d ± \d+\.\d\d, paired on the same 6 episodes", second["against"])
    assert Path(second["record"]).is_file()
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, printed(capsys, *words, "--method", "count", "-q").splitlines())) <= 80
    assert "57.4" not in text, "the published rows are on the board, which is printed with --show-board alone"


@pytest.mark.slow
def test_marks_are_those_of_all_runs_that_the_means_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "six.yaml", "--threads", "1", "--method", "protonet", "--budget", "smoke", "--no-check"]
    printed(capsys, *words, "--searched", "50")
    later = rows(printed(capsys, *words, "--seed", "1"))
    assert later["seeds"].startswith("0, 1 ")
    assert "hyperparameters searched: 50 trials" in later["marks"]


def test_a_run_that_is_not_ranked_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    said = rows(printed(capsys, *WORDS, "--method", "count"))
    assert said["rank"] == "none on leaderboards/cifarfs_delay5.md: 6 of 2000 test episodes"
    assert "rank" not in rows(printed(capsys, *WORDS, "--method", "chance", "--no-board"))


def test_a_repeated_command_says_so_and_prints_the_same_lines(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "--method", "count"]
    once = printed(capsys, *words)
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert out == once
    assert re.search(r"was finished on \d{4}-\d\d-\d\d at \d\d:\d\d UTC and is not repeated", err)
    assert cli.main([*words, "--device", "cuda:77"]) == 2, "a device that is not there is refused even then"


@pytest.mark.slow
def test_what_is_printed_is_of_the_run_itself_where_the_board_shows_another(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "six.yaml", "--threads", "1", "--method", "protonet", "--budget", "smoke"]
    old, new = [*words, "--run", "old", "--episodes", "1"], [*words, "--run", "new", "--episodes", "1"]
    once = rows(printed(capsys, *old))
    assert once["rank"].startswith("1 of 1")
    later = rows(printed(capsys, *new, "--no-check"))
    assert later["rank"].endswith(": the run left the conformance check out")
    assert later["accuracy"] == once["accuracy"], "the same training"
    assert "not checked" in later["marks"]
    assert json.loads(printed(capsys, *new, "--no-check", "--json"))["rank"] is None
    printed(capsys, *new)
    hidden = rows(printed(capsys, *old))
    assert hidden["rank"].endswith(": another row of the same setting and seed stands for it")
    assert hidden["accuracy"] == once["accuracy"]
    assert "this run" not in hidden
    assert rows(printed(capsys, *new, "--no-check"))["rank"].startswith("1 of 1"), "it was checked before"


def test_json_holds_the_records_and_the_difference(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "six.yaml", "--threads", "1", "--json"]
    printed(capsys, *words, "--method", "chance")
    found = json.loads(printed(capsys, *words, "--method", "count"))
    assert [each["method"] for each in found["records"]] == ["count"]
    assert found["ranked"] == 2
    assert found["difference"]["episodes"] == 6
    assert found["baselines"].keys() == {"count", "copy_last", "majority"}
    assert found["baselines"]["count"]["mean"] == pytest.approx(found["records"][0]["metrics"]["accuracy"]["mean"])


def stopped(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Runs a command that is interrupted after its first update."""
    plain = reporter.Reporter.training

    def interrupting(self: reporter.Reporter, *rest: object) -> None:
        plain(self, *rest)  # type: ignore[arg-type]
        if rest[-1] == "update":
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(reporter.Reporter, "training", interrupting)
        assert cli.main(list(words)) == 130


def test_limits_are_no_part_of_what_a_run_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--method", "cl_lstm", "--no-board"]
    stopped(monkeypatch, *words, "--time", "10m")
    assert cli.main([*words, "--time", "20m", "--resume"]) == 0
    (folder,) = [path for path in Path("runs/cifarfs_delay5").iterdir() if path.is_dir()]
    assert json.loads((folder / "record.json").read_text())["budget_cut"] == "time=1200s"
    assert cli.main([*words, "--episodes", "8"]) == 2
    said = capsys.readouterr().err
    assert "finished and limited to time=1200s; now it would be limited to episodes=8" in said
    assert "--fresh" in said


def test_a_run_whose_checkpoint_is_gone_says_that_its_training_begins_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--method", "cl_lstm", "--no-board"]
    stopped(monkeypatch, *words)
    (folder,) = [path for path in Path("runs/cifarfs_delay5").iterdir() if path.is_dir()]
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    capsys.readouterr()
    assert cli.main([*words, "--resume"]) == 0
    assert f"there is no checkpoint.safetensors in {folder}: its training begins anew" in " ".join(
        capsys.readouterr().err.split()
    )


def test_resuming_nothing_names_unfinished_runs_and_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--method", "cl_lstm", "--no-board"]
    monkeypatch.setattr("sys.argv", ["harness", *words, "--set", "lstm=20"])
    stopped(monkeypatch, *words, "--set", "lstm=20")
    capsys.readouterr()
    assert cli.main([*words, "--seed", "3", "--resume"]) == 2
    said = capsys.readouterr().err
    assert "Unfinished runs of cl_lstm on cifarfs_delay5, and in what they differ" in said
    assert "options.lstm: there 20, asked for 16" in said
    assert "seed: there 0, asked for 3" in said
    assert "begun by: harness run cifarfs_delay5" in said
    assert "--set lstm=20" in said
    assert not list(Path("runs/cifarfs_delay5").glob("cl_lstm-smoke-s3-*/"))


@pytest.mark.slow
def test_of_several_seeds_those_not_begun_begin_when_others_are_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*WORDS, "--method", "cl_lstm", "--no-board", "--seeds", "0-1"]
    stopped(monkeypatch, *words)
    assert cli.main([*words, "--resume"]) == 0
    assert len(list(Path("runs/cifarfs_delay5").glob("cl_lstm-*/record.json"))) == 2


def test_a_dry_run_shows_what_would_be_run_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "--method", "cl_lstm", "--seeds", "1-2", "--time", "90s", "--dry-run"]
    text = printed(capsys, *words)
    plan = json.loads(printed(capsys, *words, "--json"))
    assert plan["protocol"].startswith("cifarfs_delay5 (delayed_label), ")
    assert plan["seeds"] == [1, 2]
    assert [folder.rsplit("-", 1)[0][-2:] for folder in plan["run folder"]] == ["s1", "s2"]
    assert plan["options"]["channels"] == 4
    assert plan["limits"] == "time=90s"
    assert plan["device"].endswith(", 1 thread")
    assert {"data", "recipe", "stages", "board", "run folder"} <= plan.keys()
    assert plan["state"] == ["it begins", "it begins"]
    assert plan["begins from"] == "fresh weights"
    assert plan["parameters"] > 0
    assert plan["expected time"] is None
    assert "not known: no run of this was trained to its end here" in text
    assert all(f"{name}  " in text for name in ("protocol", "run folder", "training episodes"))
    assert not Path("runs").exists()
    assert not Path("leaderboards").exists()


def test_a_dry_run_refuses_options_that_no_method_can_be_built_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "--method", "protonet", "--set", "resolution=8", "--dry-run"]) == 2
    assert "cannot be built" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dry_run_says_what_there_is_of_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--method", "cl_lstm", "--no-board"]

    def state(*more: str) -> str:
        found = json.loads(printed(capsys, *words, *more, "--dry-run", "--json"))["state"]
        assert isinstance(found, list)
        return str(found[0])

    stopped(monkeypatch, *words)
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    assert cli.main([*words, "--dry-run"]) == 2
    assert "holds an unfinished run (interrupted); add --resume" in capsys.readouterr().err
    assert cli.main([*words, "--seeds", "5", "--resume", "--dry-run"]) == 2
    assert "there is no unfinished run to resume" in capsys.readouterr().err
    assert re.fullmatch(r"interrupted, goes on from [1-9]\d* episodes", state("--resume"))
    assert state("--resume", "--episodes", "1").endswith(" episodes, is trained no further and scored")
    assert state("--fresh") == "what is there is set aside, and it begins anew"
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == before
    assert cli.main([*words, "--resume"]) == 0
    capsys.readouterr()
    assert re.fullmatch(r"finished on .* UTC, not repeated", state())


def test_a_dry_run_refuses_weights_that_training_cannot_begin_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(2)}, {})
    words = [*WORDS, "--method", "cl_lstm", "--init", str(tmp_path / "other.safetensors"), "--dry-run"]
    assert cli.main(words) == 2
    assert "other.safetensors" in capsys.readouterr().err


@pytest.mark.slow
def test_rows_of_generated_data_leave_the_projects_boards_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stand_in = ["--data", "stand-in"]
    text = printed(capsys, "run", "six.yaml", "--method", "count", "--threads", "1", *stand_in)
    assert rows(text)["rank"] == "1 of 1 on runs/boards/stand_in/six.md"
    assert not Path("leaderboards").exists()
    assert "count" in printed(capsys, "board", "six.yaml", *stand_in), "boards are looked for where runs write them"
    assert printed(capsys, "verify", "six.yaml", *stand_in, "--list").startswith("six.jsonl:1  count, seed 0")
