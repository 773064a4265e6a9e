"""CNN+LSTM: what its pretext trains, what stays frozen, and the features and memory written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.episodes.source import EpisodeSource
from harness.method.interface import Feedback, Method, Task, state_bytes
from harness.method.registry import build_method
from harness.testing import tiny_dataset
from harness.training.loop import train
from harness.training.recipe import Budget, EpisodeChange, staged
from harness.training.state import Limits, Progress, Training
from harness.util.errors import UserError
from methods.cnn_lstm import CNNLSTM
from methods.lstm import LSTM
from methods.maml import MAML
from tests.helpers.stepping import seeded
from tests.helpers.training import assert_same, interrupting, protocol, weights

SMALL: dict[str, Any] = {"channels": 4, "units": 8, "layers": 1, "layer_norm": False, "resolution": 16}
PRETEXT: dict[str, Any] = {
    "name": "maml",
    "objective": "pretext",
    "kind": "n_way_k_shot",
    "episodes": 8,
    "episode": {"ways": 4, "shots": 1, "queries": 2},
}
STAGES: list[dict[str, Any]] = [
    PRETEXT,
    {"name": "together", "episodes": 4},
    {"name": "head", "objective": "head", "episodes": 4},
    {"name": "the protocol", "episodes": 4, "schedule": "cosine"},
]
TASK = Task(3, (3, 32, 32), "online_few_shot")


def a_training(folder: Path, frozen: bool = False, stages: list[dict[str, Any]] = STAGES, **changes: Any) -> Training:
    folder.mkdir(exist_ok=True)
    settings = {"batch": 2, "optimizer": {"lr": 1e-2, "weight_decay": 0.1}, "clip_norm": 1.0, "stages": stages}
    method = build_method(CNNLSTM, TASK, {**SMALL, "frozen": frozen}, 0)
    budget = Budget.model_validate({**settings, **changes})
    checkpoint = folder / "checkpoint.safetensors"
    return Training(method, EpisodeSource(tiny_dataset()), protocol(), budget, 0, checkpoint, {}, Limits())


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts of which anything differs."""
    return {name.rpartition(".")[0] for name, each in after.items() if not torch.equal(each, before[name])}


CONV = {f"encode.0.net.{part}.{layer}" for part in ("maps", "norms") for layer in range(4)}


@pytest.mark.parametrize("frozen", [True, False])
def test_the_pretraining_method_trains_the_conv_net_and_nothing_else(frozen: bool, tmp_path: Path) -> None:
    each = a_training(tmp_path, frozen, [PRETEXT])
    before = weights(each)
    train(each)
    assert moved(before, weights(each)) == CONV
    assert isinstance(each.method, CNNLSTM)
    assert not any(torch.equal(statistics[1], torch.ones(4)) for statistics in each.method.conv.running_statistics())


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
def test_the_pretext_leaves_what_maml_alone_would_have_learned(
    frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same episodes, rates and steps of the optimiser, from the same weights: the same bits."""
    each, best = a_training(tmp_path / "pretext", frozen, [PRETEXT]), {}
    assert isinstance(each.method, CNNLSTM)
    make = each.method.pretraining_method

    def noted(task: Task) -> Method:
        maml = make(task)
        best.update({name: tensor.clone() for name, tensor in maml.state_dict().items()})
        return maml

    monkeypatch.setattr(each.method, "pretraining_method", noted)
    train(each)
    options = {"channels": 4, "resolution": 16, "rate": "layer", "inner_lr": 0.4, "inner_steps": 1}
    maml = build_method(MAML, Task(4, TASK.image_shape, "n_way_k_shot"), options, 0)
    maml.load_state_dict(best)
    few = staged(each.protocol, EpisodeChange(**PRETEXT["episode"]), "n_way_k_shot")
    alone = a_training(tmp_path / "alone", stages=[{"name": "maml", "episodes": 8}])
    train(replace(alone, method=maml, protocol=few))
    assert isinstance(maml, MAML)
    assert_same(each.method.conv.state_dict(), maml.learner.body.state_dict())
    assert moved(best, maml.state_dict()) >= {"", "learner.classify"}


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_frozen_stays_as_the_pretext_left_it(frozen: bool, tmp_path: Path) -> None:
    each, left = a_training(tmp_path, frozen), {}

    def report(progress: Progress, now: Training, event: str) -> None:
        if event == "stage" and progress.stage == 1:
            left.update(weights(now))

    train(each, report)
    parts = moved(left, weights(each))
    statistics = {f"encode.0.net.norms.{layer}" for layer in range(4)}
    assert parts & CONV == (set() if frozen else CONV)
    assert parts >= {"recur", "classify", "encode.1"}
    after = weights(each)
    assert all(torch.equal(left[f"{name}.usual"], after[f"{name}.usual"]) for name in statistics)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
def test_interrupted_at_any_update_it_ends_with_the_same_bits(frozen: bool, tmp_path: Path) -> None:
    """Within the pretext and at its end too, where the weights that two methods share are read back."""
    whole = a_training(tmp_path / "whole", frozen)
    updates = train(whole).updates
    assert updates == 4 + 2 + 2 + 2
    for at in range(1, updates):
        with pytest.raises(KeyboardInterrupt):
            train(a_training(tmp_path / str(at), frozen), interrupting(at))
        resumed = a_training(tmp_path / str(at), frozen)
        train(resumed)
        assert_same(weights(resumed), weights(whole))


def test_a_pretext_is_refused_where_the_method_has_none(tmp_path: Path) -> None:
    each = replace(a_training(tmp_path, stages=[PRETEXT]), method=build_method(LSTM, TASK, {"channels": 4}, 0))
    with pytest.raises(UserError, match="stage 'maml' has the objective 'pretext', but LSTM has none"):
        train(each)


def a_net(**options: Any) -> CNNLSTM:
    """In double precision and scoring, with running statistics as if it had been trained."""
    with seeded(3):
        net = (
            CNNLSTM(Task(3, (1, 16, 16), "online_few_shot"), **{**SMALL, "resolution": None, **options}).double().eval()
        )
        for name, each in net.named_buffers():
            if each.is_floating_point():
                each.copy_(torch.rand_like(each) + (0.5 if name.endswith("running_var") else 0.1))
    return net


def test_answers_are_those_of_the_equations_written_out() -> None:
    """Four layers under fixed statistics, then one LSTM a step at a time with the newest label beside the features."""
    net, random = a_net(), torch.Generator().manual_seed(6)
    x = torch.randn(5, 2, 1, 16, 16, dtype=torch.float64, generator=random)
    labels = torch.tensor([[-1, -1], [2, 0], [1, -1], [0, 0], [2, 1]])
    own = net.state_dict()
    h, c = torch.zeros(2, 2, 8, dtype=torch.float64)
    expected = []
    for image, label in zip(x, labels, strict=True):
        maps = image
        for layer in range(4):
            maps = F.conv2d(maps, own[f"encode.0.net.maps.{layer}.weight"], padding=1)
            norm = {part: own[f"encode.0.net.norms.{layer}.{part}"] for part in ("usual", "scale", "shift")}
            mean, variance = (each.view(1, -1, 1, 1) for each in norm["usual"])
            maps = (maps - mean) / (variance + 1e-5).sqrt()
            maps = maps * norm["scale"].view(1, -1, 1, 1) + norm["shift"].view(1, -1, 1, 1)
            maps = F.max_pool2d(maps.clamp(min=0), 2)
        centred = (maps.flatten(1) - own["encode.1.running_mean"]) / (own["encode.1.running_var"] + 1e-5).sqrt()
        one_hot = torch.stack([label == way for way in range(3)], 1).double()
        gates = torch.cat([centred, one_hot], 1) @ own["recur.weight_ih_l0"].T + own["recur.bias_ih_l0"]
        gates = gates + h @ own["recur.weight_hh_l0"].T + own["recur.bias_hh_l0"]
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        expected.append(h @ own["classify.weight"].T + own["classify.bias"])
    state, answers = net.start(2), []
    for image, label in zip(x, labels, strict=True):
        logits, state = net.predict(net.observe(state, Feedback(label)), image)
        answers.append(logits)
    torch.testing.assert_close(torch.stack(answers), torch.stack(expected))
    torch.testing.assert_close(net.rollout(x, Feedback(labels)), torch.stack(expected))
    assert state_bytes(state) == 2 * 8 * 8 + 8


def test_running_statistics_are_those_of_the_images_of_all_support_sets() -> None:
    net = a_net().conv
    x = torch.randn(3, 4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first = F.conv2d(x.flatten(0, 1), net.state_dict()["maps.0.weight"], padding=1)
    before = net.running_statistics()[0].clone()
    net.update_running_statistics(
        tuple(torch.stack(layer) for layer in zip(*(net(each)[1] for each in x), strict=True))
    )
    expected = torch.stack([first.mean((0, 2, 3)), first.var((0, 2, 3), correction=0)])
    torch.testing.assert_close(net.running_statistics()[0], 0.9 * before + 0.1 * expected)
