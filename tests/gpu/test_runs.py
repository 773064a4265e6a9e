"""Trainings that move between a device and the CPU, run out of memory, or share the device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.runs.run_errors import memory_error, out_of_memory
from harness.training.loop import train
from harness.training.state import Limits, Progress, Training
from tests.helpers.device_runs import CPU
from tests.helpers.training import interrupting, training, weights

pytestmark = pytest.mark.gpu

LOSS, WEIGHTS = 0.05, 0.02
"""How far the smoothed loss and the weights (about 0.1 in size) may be from those of the CPU alone."""

TOO_MUCH = 2**46
"""Bytes that no machine has, and no address space."""


@pytest.mark.parametrize("back", [False, True], ids=["begun on the CPU", "begun on the device"])
def test_a_checkpoint_is_resumed_on_another_device(device: torch.device, back: bool, tmp_path: Path) -> None:
    first, second = (device, CPU) if back else (CPU, device)
    for name in ("moved", "alone"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(training(tmp_path / "moved", device=first), interrupting(9))
    moved, alone = training(tmp_path / "moved", device=second), training(tmp_path / "alone")
    progress, whole = train(moved), train(alone)
    assert progress.updates == whole.updates
    assert progress.loss == pytest.approx(whole.loss, rel=LOSS)
    for name, tensor in weights(alone).items():
        torch.testing.assert_close(weights(moved)[name].cpu(), tensor, atol=WEIGHTS, rtol=LOSS)


def test_what_runs_out_of_memory_is_told_so_and_goes_on_where_memory_is_free(
    device: torch.device, tmp_path: Path
) -> None:
    for name in ("cut", "whole"):
        (tmp_path / name).mkdir()

    def greedy(progress: Progress, _: Training, event: str) -> None:
        if event == "update" and progress.updates == 5:
            torch.empty(TOO_MUCH, dtype=torch.uint8, device=device)

    cut = training(tmp_path / "cut", limits=Limits(checkpoint_seconds=0), device=device)
    with pytest.raises(RuntimeError) as found:
        train(cut, greedy)
    assert out_of_memory(found.value)
    said = str(memory_error(found.value, cut.checkpoint))
    assert f"The last good checkpoint is kept ({cut.checkpoint})" in said
    resumed, whole = training(tmp_path / "cut", device=device), training(tmp_path / "whole", device=device)
    assert train(resumed).updates == train(whole).updates
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], tensor, atol=WEIGHTS, rtol=LOSS)


def test_two_runs_share_the_device(device: torch.device, tmp_path: Path) -> None:
    words = ["run", "omniglot_5way_online", "--method", "protonet", "--budget", "smoke", "--data", "stand-in"]
    words += ["--device", str(device), "--threads", "1", "--test-episodes", "10", "--no-board", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    folders = [tmp_path / f"seed{seed}" for seed in range(2)]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "harness", *words, "--seeds", str(seed), "--run", str(folder)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed, folder in enumerate(folders)
    ]
    for process in both:
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 0, said
    for folder in folders:
        record = json.loads((folder / "record.json").read_text())
        assert record["hardware"]["device"] == device.type
        assert all(0 <= each["mean"] <= 100 for each in record["metrics"].values())
