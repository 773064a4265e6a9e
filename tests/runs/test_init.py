"""Runs that begin from other weights (`--init`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness import cli
from harness.api import verify
from harness.boards import submit
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.training import loop
from harness.util.tensor_files import load_tensors, save_tensors
from tests.helpers.run_folders import WORDS, record_of, the_run


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (resolve, verify, submit):
        monkeypatch.setattr(module, "load_dataset", lambda name, *_, **__: tiny_dataset(name, classes=8, images=20))
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text("extends: miniimagenet_5way_1shot\nscoring: {test_episodes: 6}\n")


@pytest.mark.slow
def test_weights_of_one_run_begin_another_and_the_row_says_so() -> None:
    online = [word.replace("cifarfs_delay5", "cifarfs_5way_online") for word in WORDS]
    assert cli.main([*online, "--out", "first", "--no-board"]) == 0
    first = the_run(Path("first"))
    recipe = Path("none.yaml")
    recipe.write_text(
        "method: cl_lstm\nparts:\n"
        "  - {smoke: &s {options: {channels: 4, lstm: 16, resolution: 14}}, quick: *s, full: *s}\n"
    )
    assert cli.main([*WORDS, "--init", str(first), "--recipe", str(recipe), "--out", "then", "--no-board"]) == 0
    record = record_of(the_run(Path("then")))
    assert (record.init_episodes, record.train_episodes, record.init) == (16, 0, record_of(first).checkpoint)
    assert record.marks == ["features pre-trained on classes", "partial test"]
    header = load_tensors(the_run(Path("then")) / "weights.safetensors")[1]
    assert (header["train_episodes"], header["marks"]) == (16, ["features pre-trained on classes"])


@pytest.mark.slow
def test_what_trained_the_weights_that_a_run_begins_from_is_named_on_its_row_and_in_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(loop, "name_of", lambda _: "NVIDIA H200")
        assert cli.main([*WORDS, "--out", "first", "--no-board"]) == 0
    then = [*WORDS, "--init", str(the_run(Path("first"))), "--no-board"]
    assert cli.main([*then, "--out", "then"]) == 0
    assert "trained on NVIDIA H200 and cpu" in record_of(the_run(Path("then"))).marks
    last = [*WORDS, "--init", str(the_run(Path("then"))), "--no-board", "--out", "last"]
    assert cli.main(last) == 0
    assert load_tensors(the_run(Path("last")) / "weights.safetensors")[1]["devices"] == ["NVIDIA H200", "cpu"]
    assert cli.main([*WORDS, "--out", "only here", "--no-board"]) == 0
    assert not any(mark.startswith("trained on") for mark in record_of(the_run(Path("only here"))).marks)


@pytest.mark.slow
@pytest.mark.parametrize("gpu", [True, False], ids=["scored on a GPU", "trained on one, scored elsewhere"])
def test_weights_from_before_they_said_what_trained_them_are_asked_of_the_record_beside_them(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(loop, "name_of", lambda _: "cpu" if gpu else "NVIDIA H200")
        assert cli.main([*WORDS, "--out", "first", "--no-board"]) == 0
    folder = the_run(Path("first"))
    tensors, header = load_tensors(folder / "weights.safetensors")
    del header["devices"]
    save_tensors(folder / "weights.safetensors", tensors, header)
    if gpu:
        record = record_of(folder)
        there = record.hardware.model_copy(update={"device": "cuda", "gpu": "NVIDIA H200"})
        (folder / "record.json").write_text(record.model_copy(update={"hardware": there}).model_dump_json())
    assert cli.main([*WORDS, "--init", str(folder), "--out", "then", "--no-board"]) == 0
    assert "trained on NVIDIA H200 and cpu" in record_of(the_run(Path("then"))).marks


@pytest.mark.slow
def test_weights_that_no_run_of_the_harness_made_are_marked() -> None:
    assert cli.main([*WORDS, "--out", "first", "--no-board"]) == 0
    save_tensors(Path("foreign.safetensors"), load_tensors(the_run(Path("first")) / "weights.safetensors")[0], {})
    for init, out in (("foreign.safetensors", "then"), (None, "later")):
        start = init or str(the_run(Path("then")))
        assert cli.main([*WORDS, "--init", start, "--out", out, "--no-board"]) == 0
        assert "starting weights from elsewhere" in record_of(the_run(Path(out))).marks


@pytest.mark.slow
def test_what_a_training_goes_on_from_begins_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """It would hide what that training was made of: marks and episodes are those of the outcome."""
    assert cli.main([*WORDS, "--out", "first", "--no-board"]) == 0
    checkpoint = the_run(Path("first")) / "checkpoint.safetensors"
    assert cli.main([*WORDS, "--init", str(checkpoint), "--out", "then", "--no-board"]) == 2
    assert "is what a training goes on from, not its outcome" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"identity": {}, "marks": [], "train_episodes": 8}, None),  # made up: it names no run
        ({"identity": {}, "train_episodes": float("inf")}, "does not say how long"),
        ({"identity": {}, "train_episodes": -5}, "does not say how long"),
        ({"identity": {}, "train_episodes": 2**70}, "does not say how long"),
        ({"identity": {"protocol": "p", "digest": "d", "method": "m", "target": "t"}, "marks": 3}, "is damaged: marks"),
        ({"identity": {"protocol": "p", "digest": "d", "method": "m", "target": "t"}, "marks": ["\x1b"]}, "marks"),
        ({"identity": {}, "marks": [], "devices": "cuda"}, "does not say what its weights were trained on"),
        ({"identity": {}, "marks": [], "devices": ["\x1b[2J"]}, "does not say what its weights were trained on"),
    ],
)
def test_a_header_that_was_made_up_is_refused_before_training_or_marked(
    header: dict[str, Any], message: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--method", "opn"]
    assert cli.main([*words, "--out", "first", "--no-board"]) == 0
    save_tensors(Path("foreign.safetensors"), load_tensors(the_run(Path("first")) / "weights.safetensors")[0], header)
    done = cli.main([*words, "--init", "foreign.safetensors", "--out", "then", "--no-board"])
    if message is None:
        assert done == 0
        assert "starting weights from elsewhere" in record_of(the_run(Path("then"))).marks
    else:
        assert done == 2
        assert message in capsys.readouterr().err


def begun_from(start: Path, method: str, out: str) -> int:
    """A run over the features of the weights at `start`, with nothing trained but its head."""
    recipe = Path(f"{method}.yaml")
    stages = "[{name: head, objective: head, episodes: 4}]"
    recipe.write_text(
        f"method: {method}\nparts:\n"
        f"  - smoke: &s {{options: {{channels: 8, resolution: 16}}, batch: 2, stages: {stages}}}\n"
        "    quick: *s\n    full: *s\n"
    )
    words = ["--init", str(start), "--recipe", str(recipe), "--out", out, "--no-board", "--threads", "1"]
    return cli.main(["run", "tiny.yaml", "--budget", "smoke", "--method", method, *words])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "weights.safetensors")[0]


def features_trained(method: str, out: str) -> Path:
    """The folder of a run whose smoke recipe trained features."""
    protocol = ["run", "tiny.yaml", "--budget", "smoke", "--threads", "1"]
    assert cli.main([*protocol, "--method", method, "--out", out, "--no-board"]) == 0
    return the_run(Path(out))


@pytest.mark.slow
def test_features_of_another_method_begin_a_run_and_the_row_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    first = features_trained("bauer", "first")
    capsys.readouterr()
    assert begun_from(first, "ppa", "then") == 0
    assert "features: those of bauer on tiny; all else begins fresh" in capsys.readouterr().err
    theirs, ours = weights_of(first), weights_of(the_run(Path("then")))
    shared = [name for name in ours if name.startswith("backbone.")]
    assert shared
    assert shared == [name for name in theirs if name.startswith("backbone.")]
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)
    record = record_of(the_run(Path("then")))
    assert (record.init, record.init_episodes) == (record_of(first).checkpoint, record_of(first).train_episodes)
    assert record.train_episodes == 4
    assert record.marks[:2] == ["features pre-trained on classes", "features of another method"]


@pytest.mark.slow
def test_what_begins_from_features_is_verified_and_begins_further_runs() -> None:
    assert begun_from(features_trained("bauer", "first"), "ppa", "then") == 0
    assert cli.main(["submit", str(the_run(Path("then"))), "--protocol", "tiny.yaml", "--boards", "boards"]) == 0
    assert cli.main(["verify", "tiny.yaml", "--boards", "boards", "--in-process"]) == 0
    assert begun_from(the_run(Path("then")), "norml", "last") == 0
    assert "features of another method" in record_of(the_run(Path("last"))).marks


@pytest.mark.parametrize(
    ("method", "options"),
    [("ppa", ["--set", "channels=4"]), ("maml", [])],
    ids=["other features", "no features in common"],
)
def test_weights_of_another_method_without_the_features_are_refused(
    method: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = features_trained("bauer", "first")
    protocol = ["run", "tiny.yaml", "--budget", "smoke", "--threads", "1", "--no-board", "--out", "then"]
    assert cli.main([*protocol, "--method", method, *options, "--init", str(first)]) == 2
    error = capsys.readouterr().err
    assert "does not fit this method and its options" in error
    assert "They are those of bauer: of another method a backbone can be taken alone" in error


def untrained_from(start: Path, method: str, out: str, shape: str, *options: str) -> int:
    """A run from the weights at `start` in which nothing is trained, with the options of `shape`."""
    name = method.split(":")[-1]
    recipe = Path(f"{name}.yaml")
    recipe.write_text(f"method: {name}\nparts:\n  - {{smoke: &s {{options: {shape}}}, quick: *s, full: *s}}\n")
    words = ["--init", str(start), "--recipe", str(recipe), "--out", out, "--no-board", "--no-check", *options]
    return cli.main(["run", "tiny.yaml", "--budget", "smoke", "--threads", "1", "--method", method, *words])


CONV4 = "{channels: 8, resolution: 16}"
ADAPTED = "{channels: 4, inner_steps: 1, resolution: 16}"


def test_weights_that_fit_a_class_of_another_name_are_loaded_whole() -> None:
    first = features_trained("ppa", "first")
    Path("mine.py").write_text("from methods.ppa import PPA\n\n\nclass Mine(PPA):\n    pass\n")
    assert untrained_from(first, "mine.py:Mine", "then", CONV4) == 0
    theirs, ours = weights_of(first), weights_of(the_run(Path("then")))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    marks = record_of(the_run(Path("then"))).marks
    assert "weights of another method" in marks
    assert "features of another method" not in marks


def test_the_net_of_its_pretraining_method_begins_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    """PLATIPUS goes on from MAML: its mean is MAML's net, its deviations are fresh."""
    first = features_trained("maml", "first")
    capsys.readouterr()
    assert untrained_from(first, "platipus", "then", ADAPTED, "--set", "samples=2") == 0
    assert "weights: those of maml on tiny; all else begins fresh" in capsys.readouterr().err
    theirs, ours = weights_of(first), weights_of(the_run(Path("then")))
    assert theirs.keys() < ours.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    record = record_of(the_run(Path("then")))
    assert (record.init, record.init_episodes) == (record_of(first).checkpoint, record_of(first).train_episodes)
    assert "weights of another method" in record.marks
    assert untrained_from(the_run(Path("then")), "platipus", "last", ADAPTED, "--set", "samples=2") == 0
    assert "weights of another method" in record_of(the_run(Path("last"))).marks


def test_a_net_that_its_pretraining_method_would_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    first = features_trained("maml", "first")
    capsys.readouterr()
    assert untrained_from(first, "platipus", "then", ADAPTED, "--set", "channels=6") == 2
    assert "does not fit this method and its options" in capsys.readouterr().err


def test_all_weights_of_a_method_with_the_same_ones_begin_a_run_and_the_row_says_so() -> None:
    first = features_trained("maml", "first")
    assert untrained_from(first, "llama", "then", ADAPTED) == 0
    assert all(torch.equal(each, weights_of(first)[name]) for name, each in weights_of(the_run(Path("then"))).items())
    assert "weights of another method" in record_of(the_run(Path("then"))).marks


def test_a_class_that_was_moved_to_another_file_is_the_same_method() -> None:
    Path("mine.py").write_text("from methods.ppa import PPA as Base\n\n\nclass PPA(Base):\n    pass\n")
    assert untrained_from(features_trained("ppa", "first"), "mine.py:PPA", "then", CONV4) == 0
    assert not [mark for mark in record_of(the_run(Path("then"))).marks if "another method" in mark]
