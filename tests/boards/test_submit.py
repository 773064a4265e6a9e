"""From a method of one's own to a verified row: submit, verify and compare, on a tiny data set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import cli
from harness.boards import submit
from harness.boards.artifacts import keep, scores_of, weights_of
from harness.boards.store import append_record, read_board
from harness.data import open_dataset as data_load
from harness.evaluation import evaluate
from harness.evaluation.score import curves, metrics
from harness.protocol.load import load_protocol
from harness.records.record import Record, canonical_json
from harness.records.record import sha256_of as json_hash
from harness.runs import resolve
from harness.runs.folder import NOTED, RECORD, SCORES, read_record, read_scores, write_scores
from harness.testing import tiny_dataset
from harness.util.errors import UserError
from harness.util.tensor_files import WEIGHTS, load_tensors, save_tensors, sha256_of

PROTOCOL = """\
extends: omniglot_delay2
episode: {presentations: 3}
scoring: {shots: [1, 2], test_episodes: 12}
"""
MINE = "mine.py:Mine"
RUN = ["run", "tiny.yaml", "--budget", "smoke", "--threads", "1"]
BOARD = Path("leaderboards/tiny.jsonl")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (resolve, submit, data_load):
        monkeypatch.setattr(module, "load_dataset", lambda name, *_, **__: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(PROTOCOL)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files that `harness new-method mine` writes."""
    folder = tmp_path_factory.mktemp("mine")
    assert cli.main(["new-method", "mine", "--into", str(folder)]) == 0
    return {path.name: path.read_text() for path in folder.iterdir()}


def finished(method: str, *words: str) -> Path:
    """The folder of a new run that is on no board."""
    before = set(Path().glob("*/tiny/*"))
    assert cli.main([*RUN, "--method", method, "--no-board", *words]) == 0
    (found,) = {path for path in Path().glob("*/tiny/*") if path.is_dir()} - before
    return found


HERE = "--in-process"
"""Most tests are of other things than isolation, which takes a second or two for each start of a process."""


def submitted(folder: Path, *words: str, where: str = HERE) -> int:
    return cli.main(["submit", str(folder), "--protocol", "tiny.yaml", *filter(None, [where]), *words])


def published(folder: Path, **changes: Any) -> Record:
    """Puts a run on the board as it is, with its weights and scores beside it."""
    record = keep(read_record(folder), folder, Path("leaderboards")).model_copy(update=changes)
    append_record(record, Path("leaderboards"))
    return record


def verify(*words: str, where: str = HERE) -> int:
    return cli.main(["verify", "tiny.yaml", *filter(None, [where]), *words])


def rows() -> list[Record]:
    return [record for _, record in read_board(BOARD).records]


def rewritten(folder: Path, **changes: Any) -> None:
    """Changes a run's record on the disk, and what the folder notes of it."""
    path, noted = folder / RECORD, folder / NOTED
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    noted.write_text(json.dumps({**json.loads(noted.read_text()), "record": sha256_of(path)}))


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
    Path("mine.py").write_text(mine["mine.py"] + "\n# another file\n")
    assert verify("--row", "1", "--method", MINE) == 3
    assert "not the file that the row was made with" in capsys.readouterr().out


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


@pytest.fixture(scope="module")
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


def test_a_built_in_method_needs_no_naming_and_its_row_verifies(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted(run) == 0
    assert verify("--row", "1") == 0
    assert "over 12 episodes, every score the same to the last bit" in capsys.readouterr().out
    assert verify("--row", "1", "--episodes", "5") == 0
    assert "over 5 episodes, every score the same to the last bit" in capsys.readouterr().out
    assert verify("--list") == 0
    assert "from its weights, kept in the folder checkpoints" in capsys.readouterr().out
    assert verify("--row", "2") == 2
    assert "rows are in lines: 1" in capsys.readouterr().err


def _other_weights(folder: Path, coherent: bool) -> None:
    """Weights that were never trained; `coherent`: the record is made to name them."""
    tensors, header = load_tensors(folder / WEIGHTS)
    torch.manual_seed(5)
    save_tensors(folder / WEIGHTS, {name: torch.randn_like(each.float()) for name, each in tensors.items()}, header)
    if coherent:
        rewritten(folder, checkpoint=sha256_of(folder / WEIGHTS))


def _better_scores(folder: Path, coherent: bool) -> None:
    scores = read_scores(folder / SCORES)
    scores["right"][:, :] = scores["count"]
    write_scores(folder / SCORES, scores)
    rewritten(folder, scores=sha256_of(folder / SCORES))
    if coherent:
        protocol = load_protocol("tiny.yaml").protocol
        told = {
            name: {"mean": mean, "interval": interval, "episodes": episodes}
            for name, (mean, interval, episodes) in metrics(protocol, scores).items()
        }
        rewritten(folder, metrics=told, curves=curves(protocol, scores))


def _in_row(change: Any) -> None:
    """Edits the first row of the board, and makes the SHA-256 of its line fit."""
    content = json.loads(BOARD.read_text().splitlines()[0])
    del content["sha256"]
    change(content)
    BOARD.write_text(canonical_json({**content, "sha256": json_hash(content)}) + "\n")


def _at(*path: str, value: Any) -> Any:
    """A change of a row: one value, however deep."""

    def change(content: dict[str, Any]) -> None:
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = value

    return change


def _without_weights(content: dict[str, Any]) -> None:
    content.update(checkpoint=None, kept="")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_at("metrics", "accuracy", "mean", value=99.9), "accuracy is 99.9000"),
        (_at("metrics", "accuracy", "interval", value=0.1), "accuracy is"),
        (_at("metrics", "accuracy@shot=9", value={"mean": 99.0, "interval": 0.1, "episodes": 12}), "is not a metric"),
        (lambda row: row["metrics"].pop("accuracy@shot=1"), "accuracy@shot=1 is missing"),
        (_at("curves", "by_shot", value=[99.0, 99.0]), "the curve 'by_shot' is another"),
        (_at("curves", value={}), "the curve"),
        (_at("curves", "by_luck", value=[99.0]), "the curve 'by_luck' is not one"),
        (_at("marks", value=[]), "marks: [] in the record"),
        (_at("train_episodes", value=10**7), "training episodes: 10000000 in the record"),
        (_at("cost", "parameters", value=3), "parameters: 3 in the record"),
        (_at("cost", "state_bytes", value=8), "state_bytes: 8 in the record"),
        (_at("cost", "gflop_per_step", value=0.0), "gflop_per_step: 0.0 in the record"),
        (_at("seed", value=7), "seed: 7 in the record, 0 in its weights"),
        (_at("budget", value="full"), "budget: full in the record, smoke in its weights"),
        (_at("recipe_hash", value="ab" * 32), "recipe_hash"),
        (_without_weights, "the method has parameters"),
        (_at("options", "channels", value=2**20), "parameters:"),
        (_at("test_episodes", value=10**9), "test episodes: 1000000000 in the record, of 12"),
        (_at("method_version", value=2), "the row is of version 2 of opn; this code is version 1"),
    ],
)
def test_a_row_that_was_edited_does_not_verify(
    change: Any, message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(run)
    _in_row(change)
    assert verify("--row", "1") == 3
    assert message in capsys.readouterr().out


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("broken"), SystemExit(0), KeyError("scores")])
def test_whatever_a_row_makes_its_method_raise_is_a_verdict(
    error: BaseException, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    published(run)
    monkeypatch.setattr("harness.boards.verify.rescored", fail)
    assert verify() == 0
    assert f"not re-scored: {type(error).__name__}" in capsys.readouterr().out


def test_a_row_without_kept_weights_is_held_against_its_kept_scores(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published(run, kept="")
    assert verify("--row", "1") == 3
    assert "its numbers are those of its kept scores" in capsys.readouterr().out
    _in_row(_at("metrics", "accuracy", "mean", value=99.9))
    assert verify() == 3
    assert "differs: the row says something else" in capsys.readouterr().out


def test_submit_tells_over_how_many_episodes_the_metric_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted(run, "--dry-run") == 0
    assert "over 12 episodes, as the scores say" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: _other_weights(folder, False), "is not the file that the record names"),
        (lambda folder: _other_weights(folder, True), "the weights do not give the scores"),
        (lambda folder: _better_scores(folder, False), "metrics are not those of its scores"),
        (lambda folder: _better_scores(folder, True), "the weights do not give the scores"),
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


def test_a_row_whose_weights_do_not_give_its_scores_is_found_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _other_weights(run, coherent=True)
    record = keep(read_record(run), run, Path("leaderboards"))
    append_record(record, Path("leaderboards"))
    assert verify() == 3
    assert "differs: accuracy" in capsys.readouterr().out
    kept = weights_of(record, Path("leaderboards"))
    assert kept is not None
    kept.write_bytes(kept.read_bytes()[:-8] + b"changed!")
    assert verify("--row", "1") == 3
    assert "damaged: its SHA-256 is not its name" in capsys.readouterr().out
    kept.unlink()
    assert verify("--row", "1") == 3
    assert "is missing, where the row says that it is kept" in capsys.readouterr().out


def test_a_row_without_kept_weights_says_how_to_make_it_again_and_compares_that(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_record(run)
    append_record(record, Path("leaderboards"))
    assert verify("--row", "1") == 3
    assert f"make it again with: {record.command}" in capsys.readouterr().out
    again = finished("opn", "--out", "again")
    assert verify("--row", "1", "--run", str(again)) == 0
    assert "every mean the same" in capsys.readouterr().out
    other = finished("opn", "--seed", "3")
    assert verify("--row", "1", "--run", str(other)) == 3
    assert "it differs in seed" in capsys.readouterr().out


def test_a_changed_protocol_is_told_apart_from_a_changed_row(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submitted(run) == 0
    Path("tiny.yaml").write_text(PROTOCOL.replace("presentations: 3", "presentations: 4"))
    assert verify("--row", "1") == 3
    assert "the protocol has changed since" in capsys.readouterr().out


def _forged_tail(folder: Path) -> None:
    """Better scores of all but the first batch, with every number and hash made to fit."""
    scores = read_scores(folder / SCORES)
    scores["right"][-2:] = scores["count"][-2:]
    scores["revealed_right"][-2:] = scores["revealed_count"][-2:]
    scores["by_step"][-2:] = 1.0
    write_scores(folder / SCORES, scores)
    protocol = load_protocol("tiny.yaml").protocol
    claims = {
        name: {"mean": mean, "interval": interval, "episodes": episodes}
        for name, (mean, interval, episodes) in metrics(protocol, scores).items()
    }
    rewritten(folder, metrics=claims, curves=curves(protocol, scores), scores=sha256_of(folder / SCORES))


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


def test_large_weights_are_kept_only_when_asked_to(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.boards import artifacts

    monkeypatch.setattr(artifacts, "SMALL", 100)
    record = keep(read_record(run), run, Path("boards"))
    assert record.kept == ""
    assert weights_of(record, Path("boards")) is None
    assert scores_of(record, Path("boards")) is not None
    assert "not kept beside the board" in capsys.readouterr().err
    assert keep(read_record(run), run, Path("boards"), "checkpoints").kept == "checkpoints"
    with pytest.raises(UserError, match="it can be 'checkpoints'"):
        keep(read_record(run), run, Path("boards"), "s3://bucket")


def test_weights_on_the_hub_are_uploaded_once_fetched_and_checked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is played by a folder; what is tested is that the row names it and that its files are not trusted."""
    import huggingface_hub

    hub = Path("hub")
    uploads = []

    class Api:
        def file_exists(self, repository: str, name: str) -> bool:
            return (hub / repository / name).is_file()

        def upload_file(self, *, path_or_fileobj: Path, path_in_repo: str, repo_id: str) -> None:
            uploads.append(path_in_repo)
            (hub / repo_id).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path_or_fileobj, hub / repo_id / path_in_repo)

    def download(repository: str, name: str) -> str:
        if not (hub / repository / name).is_file():
            raise RuntimeError("404 Not Found\nmore")
        return str(hub / repository / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for _ in range(2):
        record = keep(read_record(run), run, Path("boards"), "hf://me/weights")
    assert record.kept == "hf://me/weights"
    assert uploads == [f"{record.checkpoint}.safetensors"]
    found = weights_of(record, Path("boards"))
    assert found is not None
    assert sha256_of(found) == record.checkpoint
    found.write_bytes(b"something else")
    with pytest.raises(UserError, match="damaged"):
        weights_of(record, Path("boards"))
    found.unlink()
    with pytest.raises(UserError, match=r"hf://me/weights could not give .*: 404 Not Found"):
        weights_of(record, Path("boards"))


def test_compare_takes_differences_episode_by_episode(capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("opn", "nearest_pixel"):
        assert cli.main([*RUN, "--method", method, "--seeds", "0-1" if method == "opn" else "0"]) == 0
    capsys.readouterr()
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixel", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["first"]) == 2

    def values(record: Record) -> np.ndarray:
        scores = scores_of(record, Path("leaderboards"))
        assert scores is not None
        return (scores["right"][:, 1:3] / scores["count"][:, 1:3]).mean(1)

    first = np.mean([values(row) for row in rows() if row.method == "opn"], axis=0)
    second = np.mean([values(row) for row in rows() if row.method == "nearest_pixel"], axis=0)
    change = 100 * (first - second)
    main = found["differences"][0]
    assert main["metric"] == "accuracy"
    assert main["difference"][0] == pytest.approx(change.mean())
    assert main["difference"][1] == pytest.approx(1.96 * change.std(ddof=1) / np.sqrt(12))
    assert main["better"] == pytest.approx(100 * (change > 0).mean())
    assert main["told_apart"] == (abs(main["difference"][0]) > main["difference"][1])
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixel"]) == 0
    assert "interval of the difference" in capsys.readouterr().out
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixle"]) == 2
    assert "Did you mean 'nearest_pixel'?" in capsys.readouterr().err


def test_compare_refuses_what_cannot_be_paired(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_record(run)
    append_record(record, Path("leaderboards"))  # its scores are not kept there
    assert cli.main([*RUN, "--method", "nearest_pixel"]) == 0
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixel"]) == 2
    assert "are not kept with this board" in capsys.readouterr().err
    (Path("leaderboards") / "scores").mkdir(exist_ok=True)
    damaged = Path("leaderboards") / "scores" / f"{record.scores}.npz"
    damaged.write_bytes(b"PK\x03\x04 and nothing more")
    assert cli.main(["compare", "tiny.yaml", "opn", "nearest_pixel"]) == 2
    assert "damaged" in capsys.readouterr().err
