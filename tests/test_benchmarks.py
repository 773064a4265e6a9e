"""The benchmarks run, at tiny size, and compare like with like."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.cli import main
from harness.util.tensor_files import sha256_of

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script(name: str) -> ModuleType:
    """A benchmark as a module; it finds what lies beside it, as a script does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module(name)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a benchmark with words of a command line; returns what it prints."""

    def printed(name: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *words])
        script(name).main()
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("name", ["opn", "cl_lstm", "oml", "anml", "maml", "norml", "meta_learner_lstm"])
def test_the_three_ways_have_one_loss_and_one_gradient(name: str) -> None:
    training = script("training")
    bench = training.bench_of(name, "smoke", "cpu")
    ways = [training.episode_loss, training.stepped, training.WRITTEN_OUT.get(bench.method_name, training.loop)]
    found = []
    for way in ways:
        _, value = training.seconds(bench, way)
        gradients = [each.grad.flatten() for each in bench.method.parameters() if each.grad is not None]
        found.append((value, torch.cat(gradients)))
    for value, gradient in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-4)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-2, atol=1e-4)


def test_what_has_a_loss_of_its_own_is_not_compared_with_a_loop_over_answers(
    run: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in script("training").OWN_LOSS:
        with pytest.raises(SystemExit):
            run("training", name)
        assert "which no plain loop has; add --against CHECKOUT" in capsys.readouterr().err


def cells(text: str, first: str) -> list[str]:
    """The cells of the line of a table that begins with this one."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_episodes_are_compared_with_a_bare_gather(run: Callable[..., str]) -> None:
    text = run("episodes", "--episodes", "16", "--batch", "8")
    _, rate, _, ratio = cells(text, "episodes as float tensors")
    assert float(ratio) == pytest.approx(int(rate) / int(cells(text, "bare NumPy: gather and normalise")[1]), abs=0.01)
    assert cells(text, "bare NumPy: gather bytes")[3] == ""


def test_bare_numpy_makes_the_pixels_of_the_harness() -> None:
    """In one order or another: the same gather and the same normalisation."""
    episodes = script("episodes")
    card = episodes.CARDS["cifar_fs"]
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *card.image_shape).numpy()
    scale, shift = episodes.bare_normalisation(card)
    items = episodes.Items(images, torch.tensor(card.mean), torch.tensor(card.std))
    for number in (0, 17, 255):
        torch.testing.assert_close(torch.from_numpy(images[number] * scale + shift), items[number][0])


def test_what_needs_no_gpu_is_counted_without_one(run: Callable[..., str]) -> None:
    text = run(
        "gpu", "opn", "--device", "cpu", "--budget", "smoke", "--times", "1", "2", "--rounds", "1", "--size", "64"
    )
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| opn")]
    one, two = ([cell.strip() for cell in row[1:-1]] for row in rows)
    assert int(two[1]) == 2 * int(one[1])
    # As many operations, on twice as many episodes: what is launched does not grow with the batch.
    assert 100 < int(one[4]) == int(two[4])
    assert one[5:8] == ["", "", ""]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(run: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("gpu")
    assert ended.value.code == 2
    assert "there is no GPU here" in capsys.readouterr().err


def test_a_start_has_all_its_phases(cache: Path) -> None:
    startup = script("startup")
    args = argparse.Namespace(
        protocol="omniglot_5way_online",
        method="protonet",
        budget="smoke",
        data="stand-in",
        data_root=None,
        cache=cache,
        threads=1,
        launched=time.monotonic() - 0.5,
    )
    phases = startup.started(args)
    assert list(phases)[:3] == ["interpreter", "import torch", "import harness"]
    assert list(phases)[-1] == "first update"
    assert phases["interpreter"][0] >= 0.5
    rows = startup.medians([{"a": (1.0, 0.5), "b": (2.0, 1.0)}, {"a": (3.0, 1.5), "b": (4.0, 2.0)}])
    assert rows == [("a", 2.0, 1.0), ("b", 3.0, 1.5), ("all of it", 5.0, 2.5)]


def protonet(updates: ModuleType) -> Any:
    return updates.Case("protonet", "protonet", "omniglot_20way_1shot", {}, "smoke")


def test_a_checkout_makes_an_update_for_each_line() -> None:
    updates = script("updates")
    line, answers = json.dumps(vars(protonet(updates))) + "\n", io.StringIO()
    updates.serve(io.StringIO(line * 2), answers)
    first, second = (json.loads(answer) for answer in answers.getvalue().splitlines())
    assert first["seconds"] > 0
    assert (first["episodes"], first["parameters"]) == (second["episodes"], second["parameters"])


def test_two_checkouts_are_compared_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = script("updates")
    turns = []

    class Side:
        def __init__(self, checkout: Path) -> None:
            self.checkout = checkout

        def update(self, case: Any) -> Any:
            turns.append(self.checkout.name)
            return updates.Update({"old": 0.3, "new": 0.2}[self.checkout.name], 4, 10)

        def close(self) -> None:
            turns.append("closed")

    monkeypatch.setattr(updates, "Side", Side)
    (row,) = updates.compared([protonet(updates)], Path("new"), Path("old"), 2)
    assert turns == ["old", "new", "old", "new", "closed", "closed"]
    assert row == ["protonet", "omniglot_20way_1shot", "4", "75", "50", "1.50"]


STAND_IN = ("--data", "stand-in", "--test-episodes", "4")
DAY = ("--device", "cpu", "--budget", "smoke", "--precision", "fp32", "--jobs", "2", "--phases", "train")


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The trainings of a GPU, which are two short ones here, packed with what Python has."""
    gpu_day = script("gpu_day")
    runs = tuple(gpu_day.Run("omniglot_20way_1shot", name, STAND_IN) for name in ("maml", "protonet"))
    monkeypatch.setattr(gpu_day, "TRAININGS", runs)
    monkeypatch.setattr(gpu_day, "_is_there", lambda package: False)
    return gpu_day


def unpacked(out: Path, folder: Path) -> list[Path]:
    """The run folders that a day has packed, unpacked as its text says."""
    whole = b"".join(part.read_bytes() for part in sorted(out.glob("runs.tar.gz.*")))
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / member.name).write_bytes(content.read())
    return sorted((folder / "runs").iterdir())


def test_a_day_of_a_gpu_trains_and_packs(day: ModuleType, run: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run("gpu_day", "--out", str(out), "--minutes", "4", "--only", "*maml*", *DAY)
    assert "programs share the GPU: False" in said
    (log,) = out.glob("*.log")
    (folder,) = unpacked(out, tmp_path / "home")
    assert folder.name == log.stem == day.TRAININGS[0].label
    assert json.loads((folder / "record.json").read_text())["method"] == "maml"
    assert {"weights.safetensors", "scores.npz", "run.json"} < {each.name for each in folder.iterdir()}
    assert not list(folder.glob("checkpoint*"))


def test_a_day_of_a_gpu_goes_on_with_the_last(day: ModuleType, run: Callable[..., str], tmp_path: Path) -> None:
    words = ["run", "omniglot_20way_1shot", "--method", "maml", *STAND_IN, *DAY[:6], "--threads", "1", "--train-only"]
    assert main([*words, "--run", str(tmp_path / "before" / day.TRAININGS[0].label)]) == 0
    run("gpu_day", "--out", str(tmp_path / "out"), "--minutes", "4", "--runs", str(tmp_path / "before"), *DAY)
    logs = {path.stem: path.read_text() for path in (tmp_path / "out").glob("*.log")}
    assert ["training ends" in logs[each.label] for each in day.TRAININGS] == [False, True]
    folders = unpacked(tmp_path / "out", tmp_path / "home")
    assert [each.name for each in folders] == sorted(each.label for each in day.TRAININGS)
    assert all((folder / "record.json").is_file() for folder in folders)


def test_a_day_of_a_gpu_begins_from_a_run_once_that_is_done_and_leaves_heavy_weights_behind(
    day: ModuleType, run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = day.Run("omniglot_20way_1shot", "maml", STAND_IN, heavy=True)
    later, never = (day.Run("omniglot_20way_5shot", "maml", STAND_IN, after=each) for each in (first.label, "nothing"))
    monkeypatch.setattr(day, "TRAININGS", (never, later, first))
    out = tmp_path / "out"
    run("gpu_day", "--out", str(out), "--minutes", "4", *DAY)
    folders = {folder.name: folder for folder in unpacked(out, tmp_path / "home")}
    assert folders.keys() == {first.label, later.label}
    assert not (folders[first.label] / "weights.safetensors").exists()
    assert json.loads((folders[later.label] / "record.json").read_text())["init"] == sha256_of(
        out / "runs" / first.label / "weights.safetensors"
    )
    (board,) = (tmp_path / "home" / "boards").rglob("*.jsonl")
    assert json.loads(board.read_text())["run"] == first.label
