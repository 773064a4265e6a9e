"""One training by several processes (torchrun): as by one, whichever of them ends.

The processes are real, over gloo on the CPU, and forks of one program (tests/helpers/several_processes.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli import main
from harness.training.follow import check_shares
from harness.training.processes import ALONE, Processes
from harness.training.recipe import Budget
from harness.util.errors import UserError
from harness.util.tensor_files import load_tensors
from tests.helpers import runs as tiny_runs
from tests.helpers.training import STAGES

ROOT = Path(__file__).parents[2]

FLOAT32, FLOAT64 = 1e-6, 1e-12
"""How far weights may be from those of one process after the six to eighteen updates of these trainings: sums are
rounded in another order, and in no other way."""

AMPLIFIED = 1e-9
"""The same with biases before a batch normalisation: it cancels them, so that their gradients are rounding errors, and
Adam scales these up."""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/helpers/several_processes.py tells of each case."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.several_processes", str(tmp_path_factory.mktemp("processes"))],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def trained(case: dict[str, Any], out: str = "runs") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors (weights, optimiser, best weights) and the counters at the end of the training of a case."""
    (path,) = Path(case["folder"], out).glob("*/*/checkpoint.safetensors")
    tensors, header = load_tensors(path)
    return tensors, header["progress"]


def farthest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """The largest difference of any number of tensors of the same names."""
    assert ours.keys() == theirs.keys()
    return max(float((each.double() - theirs[name].double()).abs().max()) for name, each in ours.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "two", "tolerance"),
    [
        ("one", "two", FLOAT32),
        ("one in float64", "two in float64", FLOAT64),
        ("shared by one", "shared by two", AMPLIFIED),
        ("buffers of one", "buffers of two", FLOAT64),
        ("steps of one", "steps of two", FLOAT32),
    ],
)
def test_two_processes_train_to_the_weights_of_one(cases: dict[str, Any], one: str, two: str, tolerance: float) -> None:
    """Batches of three episodes, hence unequal shares; stages on classes, on the head and on episodes; batch
    normalisation, running statistics of support sets, moments that a method carries on, a mean over steps; in float64
    averaged weights."""
    assert cases[one]["runs"][0]["codes"] == [0]
    assert cases[two]["runs"][0]["codes"] == [0, 0], cases[two]["runs"][0]["said"]
    (ours, counted), (theirs, alone) = trained(cases[two]), trained(cases[one])
    assert farthest(ours, theirs) < tolerance
    assert (counted["processes"], alone["processes"]) == (2, 1)
    assert (counted["updates"], counted["episodes"]) == (alone["updates"], alone["episodes"])
    assert counted["smoothed"] == pytest.approx(alone["smoothed"], rel=1e-5)
    assert [each["score"] for each in counted["history"]] == [each["score"] for each in alone["history"]]


@pytest.mark.slow
def test_the_first_process_alone_speaks_and_the_record_says_how_many_there_were(cases: dict[str, Any]) -> None:
    said = cases["two"]["runs"][0]["said"]
    assert "training ends" in said[0]
    assert said[1] == ""
    (path,) = Path(cases["two"]["folder"]).glob("runs/*/*/record.json")
    record = json.loads(path.read_text())
    assert "trained by 2 processes" in record["marks"]
    assert record["command"].startswith("torchrun --nproc-per-node 2 -m harness run late.yaml --method cl_lstm ")


@pytest.mark.slow
def test_shared_features_are_cached_for_so_many_processes(cases: dict[str, Any]) -> None:
    first, again = (trained(cases["shared by two"], out) for out in ("runs", "again"))
    assert [each["reused"] for each in first[1]["pretrained"]] == [False]
    assert [each["reused"] for each in again[1]["pretrained"]] == [True]
    assert farthest(first[0], again[0]) == 0
    assert trained(cases["shared by one"])[1]["pretrained"][0]["key"] != first[1]["pretrained"][0]["key"]


@pytest.mark.slow
def test_a_training_goes_on_with_fewer_processes_and_with_more(cases: dict[str, Any]) -> None:
    """A SIGTERM to the second of two; then one process alone, with Ctrl-C; then two to the end."""
    stopped, alone, whole = cases["resumed"]["runs"]
    assert stopped["codes"] == [130, 130]
    assert "go on with: torchrun --nproc-per-node 2 -m harness run" in stopped["said"][0]
    assert alone["codes"] == [130]
    assert whole["codes"] == [0, 0]
    assert farthest(trained(cases["resumed"])[0], trained(cases["one in float64"])[0]) < FLOAT64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "codes", "said"),
    [
        ("killed", [1, -signal.SIGKILL], "one of the 2 processes ended without a word"),
        ("first killed", [-signal.SIGKILL, 1], ""),
        ("failed", [1, 1], "process 1 of the 2 (counted from 0) failed: no luck today"),
        ("first failed", [1, None], "harness: error: no luck today"),
        ("first failed in validation", [1, 1], "harness: error: no luck today"),
        ("refused", [2, 1, 1], "3 processes cannot share a batch of 2 episodes (stage 'classes')"),
        ("several seeds", [2, 2], "2 processes train one seed together"),
    ],
)
def test_whichever_process_ends_the_others_end_too_and_the_first_says_why_once(
    cases: dict[str, Any], case: str, codes: list[int | None], said: str
) -> None:
    (run,) = cases[case]["runs"]
    for wanted, found in zip(codes, run["codes"], strict=True):
        # Of whoever is in the middle of an update; where it is between two, it is told in time.
        assert found in ((0, 1) if wanted is None else (wanted,))
    assert said in " ".join(run["said"][0].split())  # wrapped at words where the terminal is narrow
    assert run["said"][0].count("error:") == (said != "")
    assert "".join(run["said"][1:]) == ""


@pytest.mark.slow
def test_every_process_of_a_script_gets_the_result_of_its_runs(cases: dict[str, Any]) -> None:
    (run,) = cases["from Python"]["runs"]
    assert run["codes"] == [0, 0], run["said"]
    first, second = (said.splitlines() for said in run["said"])
    assert first == second
    assert [line.split()[0] for line in first] == ["0", "1"]
    assert all("'trained by 2 processes'" in line for line in first)


@pytest.mark.slow
def test_torchrun_starts_it_from_the_command_line(tmp_path: Path) -> None:
    folder = tiny_runs.written(tmp_path)
    words = tiny_runs.words("late", "--data", "stand-in", "--boards", "boards", "--device", "cpu")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "harness"]
    done = subprocess.run(
        [*torchrun, *(word for word in words if word not in ("--cache", "cache"))],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "trained by 2 processes" in done.stdout
    (row,) = Path(folder, "boards").rglob("late.jsonl")
    assert len(row.read_text().splitlines()) == 1


@pytest.mark.parametrize(("count", "world"), [(3, 2), (8, 3), (5, 5), (16, 4)])
def test_shares_follow_one_another_and_differ_by_one_at_most(count: int, world: int) -> None:
    parts = [Processes(rank, world).part(count) for rank in range(world)]
    assert [number for part in parts for number in range(count)[part]] == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1
    losses = torch.arange(count, dtype=torch.float64)
    shares = [Processes(rank, world).weighted(losses[part].mean(), count) for rank, part in enumerate(parts)]
    assert float(sum(shares)) == pytest.approx(float(losses.mean()))


def test_alone_nothing_is_summed_weighted_or_ordered() -> None:
    x = torch.ones(2)
    assert ALONE.total(x) is x
    assert ALONE.weighted(x, 2) is x


def test_images_beside_episodes_are_shared_too() -> None:
    stage = {**STAGES[-1], "classes_weight": 0.5, "classes_batch": 2}
    budget = Budget.model_validate({"batch": 3, "optimizer": {"lr": 1e-2}, "stages": [stage]})
    check_shares(budget, 2)
    with pytest.raises(UserError, match=r"3 processes cannot share a batch of 2 images \(stage 'the protocol'\)"):
        check_shares(budget, 3)


def test_a_sweep_starts_its_runs_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert main(["sweep", "smoke_all"]) == 2
    assert "start it without torchrun" in capsys.readouterr().err
