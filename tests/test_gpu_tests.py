"""The tests of a GPU can be trusted to test something: on the CPU they hold, and they see what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.training.state import Training
from tests.gpu import test_agreement, test_runs
from tests.helpers import device_runs

CPU = device_runs.CPU


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["protonet", "lstm"])
def test_a_device_agrees_with_itself(name: str, tmp_path: Path) -> None:
    test_agreement.test_ten_updates_and_scores_agree_with_those_of_the_cpu(name, CPU, tmp_path)


def test_replayed_updates_agree_with_computed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_agreement.test_updates_are_replayed_and_train_as_computed_ones("protonet", CPU, tmp_path, monkeypatch)


def test_a_record_of_nothing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_agreement, "recorder", lambda work: (work(), lambda: None))
    with pytest.raises(AssertionError):
        test_agreement.test_updates_are_replayed_and_train_as_computed_ones("protonet", CPU, tmp_path, monkeypatch)


def test_a_checkpoint_out_of_memory_is_resumed(tmp_path: Path) -> None:
    test_runs.test_what_runs_out_of_memory_is_told_so_and_goes_on_where_memory_is_free(CPU, tmp_path)


def test_a_checkpoint_is_resumed_on_the_other_device(tmp_path: Path) -> None:
    test_runs.test_a_checkpoint_is_resumed_on_another_device(CPU, True, tmp_path)


def test_weights_that_are_a_third_off_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = device_runs.training_on

    def off(name: str, device: torch.device, folder: Path, least: int) -> Training:
        training = begin(name, device, folder, least)
        if folder.name == "device":
            with torch.no_grad():
                for each in training.method.parameters():
                    each.mul_(1 + torch.randn_like(each) / 3)
        return training

    monkeypatch.setattr(device_runs, "training_on", off)
    with pytest.raises(AssertionError):
        test_agreement.test_ten_updates_and_scores_agree_with_those_of_the_cpu("protonet", CPU, tmp_path)
