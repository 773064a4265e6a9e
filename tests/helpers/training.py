"""A small training on random pixels, for tests in this process and in one that is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.episodes.source import EpisodeSource
from harness.method.registry import build_method
from harness.protocol.models import OnlineFewShot
from harness.testing import tiny_dataset
from harness.training.loop import train
from harness.training.recipe import Budget
from harness.training.state import Limits, Progress, Training
from tests.helpers.protocols import validated_as

STAGES: list[dict[str, Any]] = [
    {"name": "classes", "objective": "classes", "episodes": 12, "batch": 4},
    {"name": "head", "objective": "head", "episodes": 6},
    {"name": "2 ways", "episodes": 8, "episode": {"ways": 2, "presentations": 2, "order": "iid"}},
    {"name": "the protocol", "episodes": 12, "schedule": "cosine", "warmup": 2},
]


def protocol() -> OnlineFewShot:
    return validated_as(
        OnlineFewShot,
        {
            "kind": "online_few_shot",
            "title": "tiny",
            "dataset": "objects",
            "episode": {"ways": 3, "presentations": 3},
            "scoring": {"shots": [1, 2], "test_episodes": 6},
        },
    )


def training(
    folder: Path, seed: int = 0, limits: Limits | None = None, device: torch.device | str = "cpu", **changes: Any
) -> Training:
    """A training of a small CL+LSTM with an objective on classes, a curriculum and validation."""
    from harness.method.interface import Task
    from methods.cl_lstm import CLLSTM

    budget = {
        "batch": 2,
        "optimizer": {"lr": 1e-2},
        "clip_norm": 5.0,
        "augment": ["flip", "crop"],
        "stages": STAGES,
        "validation": {"every": 8, "episodes": 6},
        **changes,
    }
    task = Task(3, (3, 32, 32), "online_few_shot")
    method = build_method(CLLSTM, task, {"channels": 4, "lstm": 8, "resolution": 8}, seed, device)
    return Training(
        method,
        EpisodeSource(tiny_dataset(), device),
        protocol(),
        Budget.model_validate(budget),
        seed,
        folder / "checkpoint.safetensors",
        {},
        limits or Limits(checkpoint_seconds=0),
    )


def weights(each: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in each.method.state_dict().items()}


def interrupting(at: int) -> Callable[[Progress, Training, str], None]:
    """Sends this process a Ctrl-C when update `at` is done."""

    def report(progress: Progress, _: Training, event: str) -> None:
        if event == "update" and progress.updates == at:
            os.kill(os.getpid(), signal.SIGINT)

    return report


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """The same tensors under the same names, bit for bit."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(training(Path(sys.argv[1])), lambda progress, *_: print(progress.updates, flush=True))
