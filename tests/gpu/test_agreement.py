"""Ten updates and the scores of every trained method on a device, beside those on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.episodes import source
from harness.episodes.source import EpisodeSource
from harness.protocol.load import load_protocol
from harness.testing import tiny_dataset
from harness.training.objectives import Loss
from harness.training.replay import CudaGraphs, Replays
from harness.training.stages import RunningStage
from tests.helpers.built_in import TRAINED
from tests.helpers.device_runs import CPU, UPDATES, score_of, trained, training_on
from tests.helpers.recorded import recorder, with_replays

pytestmark = pytest.mark.gpu

FIRST, LAST, SCORE = 0.005, 0.05, 3.0
"""How far a device may be from the CPU: the loss of the first update and the smoothed loss of the last stage, each by
this part of it (differences of single operations, 1e-7 in fp32, grow in inner loops and over ten updates); the score of
the same weights by so many points, since an answer that is nearly a tie may turn over."""

DRAWS = ("platipus",)
"""Draws weights on the device while it trains, where the CPU has other random numbers: only its scores are compared."""


@pytest.mark.parametrize("name", TRAINED)
def test_ten_updates_and_scores_agree_with_those_of_the_cpu(name: str, device: torch.device, tmp_path: Path) -> None:
    ours, theirs = trained(name, device, tmp_path / "device"), trained(name, CPU, tmp_path / "cpu")
    method = ours.training.method
    assert all(each.isfinite().all() for each in method.state_dict().values() if each.is_floating_point())
    if name not in DRAWS:
        assert ours.first == pytest.approx(theirs.first, rel=FIRST)
        assert ours.last == pytest.approx(theirs.last, rel=LAST)
    method.load_state_dict(theirs.training.method.state_dict())
    assert score_of(ours.training) == pytest.approx(score_of(theirs.training), abs=SCORE)


def test_the_trainings_that_are_compared_have_ten_updates(device: torch.device, tmp_path: Path) -> None:
    """Without which two devices would agree on nothing at all."""
    training = training_on("protonet", device, tmp_path)
    assert sum(stage.episodes // (stage.batch or training.budget.batch) for stage in training.budget.stages) >= UPDATES


@pytest.mark.parametrize(
    "name", ["cl_lstm", "cl_unet", "maml", "norml", "ntm", "oml", "platipus", "protonet", "resnet20"]
)
def test_updates_are_replayed_and_train_as_computed_ones(
    name: str, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replays, "release", lambda self: None)  # so that what was recorded can be looked at
    with monkeypatch.context() as patched:
        patched.setattr(RunningStage, "replays", None)
        computed = trained(name, device, tmp_path / "computed", least=5)
    made = with_replays(monkeypatch, CudaGraphs(device) if device.type == "cuda" else recorder)
    replayed = trained(name, device, tmp_path / "replayed", least=5)
    assert replayed.last == pytest.approx(computed.last, rel=LAST / 10)
    used = [sum(each.used for each in replays.records.values() if each) for replays in made]
    assert min(used) >= 2 or (name == "ntm" and device.type == "cpu")  # `F.one_hot` reads there


def test_a_recording_that_fails_leaves_the_gpu_as_it_was(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("records CUDA graphs")
    x, stream = torch.ones(3, device=device), torch.cuda.current_stream(device)

    def work() -> Loss:
        return Loss(x, torch.tensor(x.sum().item()))

    with pytest.raises(RuntimeError):
        CudaGraphs(device)(work)
    assert torch.cuda.current_stream(device) == stream
    torch.manual_seed(0)
    drawn = torch.rand(3, device=device)
    torch.cuda.empty_cache()
    _, replay = CudaGraphs(device)(lambda: Loss(x, x.add_(1)))
    replay()
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3, device=device), drawn)
    assert x.tolist() == [2.0] * 3


@pytest.mark.parametrize("name", ["cifarfs_delay5", "fss1000_distractors"])
def test_images_that_stay_on_the_host_give_the_same_episodes(
    name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = load_protocol(name).protocol
    data = tiny_dataset(str(protocol.dataset), max(8, protocol.needs.classes), protocol.needs.images)
    usual = EpisodeSource(data, device)
    monkeypatch.setattr(source, "_home", lambda *_: torch.device("cpu", 0))
    apart = EpisodeSource(data, device)
    for augment in ((), ("flip", "crop")):
        one, other = (each.episodes(protocol, "train", 0, range(3), augment) for each in (usual, apart))
        assert one.x.device == other.x.device
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.target, other.target)
