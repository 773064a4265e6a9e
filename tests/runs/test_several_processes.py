"""What a run by several processes is apart from its training: the device of each, and marks that speak of one run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.boards.verify import _repeatable
from harness.method.registry import task_of
from harness.runs.init import load_init
from harness.runs.several_processes import device_of
from harness.util.errors import UserError
from harness.util.launch import Launch
from harness.util.tensor_files import save_tensors
from methods.opn import OPN
from tests.helpers.boards import record
from tests.helpers.training import protocol

SECOND = Launch(rank=5, world=8, local_rank=1, local_world=4)


@pytest.mark.parametrize(
    ("asked", "there", "device"),
    [("auto", True, "cuda:1"), ("cuda", True, "cuda:1"), ("auto", False, "auto"), ("cpu", True, "cpu")],
)
def test_each_process_of_a_machine_has_a_gpu_of_its_own(
    asked: str, there: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_of(asked, SECOND) == device


def test_one_gpu_by_number_is_refused() -> None:
    with pytest.raises(UserError, match="'cuda:1' is one GPU, and there are 8 processes"):
        device_of("cuda:1", SECOND)


def test_a_row_and_its_run_made_again_may_have_been_trained_by_other_numbers_of_processes() -> None:
    ours, theirs = record(marks=["custom recipe", "trained by 2 processes"]), record(marks=["custom recipe"])
    assert _repeatable(ours, theirs) == _repeatable(theirs, ours)


def test_weights_that_several_processes_trained_leave_that_mark_behind(tmp_path: Path) -> None:
    method = OPN(task_of(protocol(), (3, 32, 32), 10, with_label_delay=True), channels=4)
    identity = dict.fromkeys(("protocol", "digest", "method", "target"), "x")
    header = {"identity": identity, "train_episodes": 8, "marks": ["not validated", "trained by 2 processes"]}
    save_tensors(tmp_path / "weights.safetensors", method.state_dict(), header)
    assert load_init(method, tmp_path).marks == ("not validated",)
