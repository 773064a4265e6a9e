"""What the sources of MAML and Reptile have for Omniglot: convolutions of stride 2, and a shift that does not adapt."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import profile

from harness.method.interface import Task
from harness.training.episode_loss import episode_loss
from harness.training.objectives import EpisodesObjective
from harness.training.recipe import Budget
from harness.training.stages import begin_stage
from harness.training.state import Progress, Training
from methods.maml import MAML
from methods.nn.functional_nets import FunctionalStrided, HalvingConv2d, build_learner
from methods.reptile import Reptile
from tests.helpers.maml import (
    WAYS,
    assert_nearly,
    k_shot_protocol,
    meta_gradients,
    plain_loss,
    some_episodes,
    source_for,
)
from tests.helpers.stepping import seeded


@pytest.mark.parametrize("sides", [(28, 28), (7, 14), (5, 3)])
def test_a_halving_convolution_is_that_of_the_definition(sides: tuple[int, int]) -> None:
    """Output ceil(n / 2); of the zeros that it takes, the odd one is at the end (TensorFlow's 'SAME')."""
    with seeded(1):
        conv, x = HalvingConv2d(2, 3).double(), torch.randn(1, 2, *sides, dtype=torch.float64)
    found, before, sizes = conv(x), [], []
    for side in sides:
        sizes.append(-(-side // 2))
        before.append(max((sizes[-1] - 1) * 2 + 3 - side, 0) // 2)
    assert list(found.shape) == [1, 3, *sizes]
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            total = torch.zeros(3, dtype=torch.float64)
            for di in range(3):
                for dj in range(3):
                    row, column = 2 * i + di - before[0], 2 * j + dj - before[1]
                    if 0 <= row < sides[0] and 0 <= column < sides[1]:
                        total += conv.weight[:, :, di, dj] @ x[0, :, row, column]
            torch.testing.assert_close(found[0, :, i, j], total)


@pytest.mark.parametrize(("net", "features"), [("strided", 256), ("strided_mean", 64)])
def test_features_at_28x28_are_as_many_as_in_the_sources(net: Any, features: int) -> None:
    body = build_learner(net, (1, 28, 28), 20, 64, "support").body
    assert isinstance(body, FunctionalStrided)
    assert body.dim == features
    assert body(torch.rand(2, 1, 28, 28))[0].shape == (2, features)


@pytest.mark.parametrize("net", ["strided", "strided_mean"])
def test_images_normalised_alone_must_not_shrink_to_a_pixel(net: Any) -> None:
    with pytest.raises(ValueError, match=f"net={net} shrinks images of 16x16"):
        build_learner(net, (1, 16, 16), 5, 4, "instance")
    logits, _ = build_learner(net, (1, 17, 16), 5, 4, "instance")(torch.randn(3, 1, 17, 16))
    assert len(logits.unique(dim=0)) == 3


def plain_logits(net: MAML, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits of images [N, 1, 28, 28], normalised by their own batch without a scale; written out."""
    for layer in range(4):
        x = F.conv2d(F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1)), weights[f"body.maps.{layer}.weight"], stride=2)
        mean, variance = x.mean([0, 2, 3], keepdim=True), x.var([0, 2, 3], keepdim=True, correction=0)
        shift = weights[f"body.norms.{layer}.shift"].view(1, -1, 1, 1)
        x = ((x - mean) / (variance + 1e-5).sqrt() + shift).clamp(min=0)
    return x.mean([2, 3]) @ weights["classify.weight"].T + weights["classify.bias"]


def test_maml_as_its_source_is_a_plain_loop_in_which_the_shift_does_not_adapt() -> None:
    with seeded(4):
        task = Task(WAYS, (1, 28, 28), "n_way_k_shot", None)
        net = MAML(task, net="strided_mean", norm="source", channels=4, inner_lr=0.4, inner_steps=2).double().train()
        for name, each in net.learner.named_parameters():
            if name.endswith(".shift"):
                each.data.normal_()
    assert net.transductive
    names = dict(net.learner.named_parameters())
    assert not any(name.endswith(".scale") for name in names)
    episodes = some_episodes(k_shot_protocol())
    first, wanted = episodes.plan.first_query, torch.zeros((), dtype=torch.float64)
    for b in range(episodes.target.shape[1]):
        weights: dict[str, Tensor] = dict(names)
        for _ in range(2):
            loss = F.cross_entropy(plain_logits(net, weights, episodes.x[:first, b]), episodes.target[:first, b])
            adapted = [name for name in weights if not name.endswith(".shift")]
            gradients = torch.autograd.grad(loss, [weights[name] for name in adapted], create_graph=True)
            weights |= {name: weights[name] - 0.4 * each for name, each in zip(adapted, gradients, strict=True)}
        logits = plain_logits(net, weights, episodes.x[first:, b])
        wanted = wanted + F.cross_entropy(logits, episodes.target[first:, b], reduction="sum") / 2
    found = episode_loss(net, episodes)
    assert_nearly(found.double(), wanted)
    assert_nearly(meta_gradients(net, found), meta_gradients(net, wanted))


@pytest.mark.parametrize("net", ["conv", "strided"])
@pytest.mark.parametrize("norm", ["batch", "source"])
def test_every_step_is_as_much_work_as_the_one_before(norm: Any, net: Any) -> None:
    images, labels = torch.randn(2, 3, 1, 16, 16), torch.tensor([[0, 1, 2], [2, 1, 0]])

    def operations(steps: int) -> int:
        maml = MAML(Task(3, (1, 16, 16), "n_way_k_shot"), net=net, channels=4, norm=norm, inner_steps=steps).train()
        with profile() as profiled:
            maml.fit(images, labels)
        return sum(each.count for each in profiled.key_averages() if each.key.startswith("aten::"))

    counts = [operations(steps) for steps in range(2, 6)]
    further = {after - before for before, after in pairwise(counts)}
    assert len(further) == 1, counts


def test_entries_of_the_meta_gradient_are_clipped_as_for_mini_imagenet(tmp_path: Path) -> None:
    """An update moves by the gradient of a plain loop, each entry of which is clipped by itself."""
    with seeded(4):
        net = MAML(
            Task(WAYS, (1, 28, 28), "n_way_k_shot", None), channels=4, inner_lr=0.4, inner_steps=2, resolution=16
        )
    protocol, bound = k_shot_protocol(), 0.02
    settings = {"batch": 2, "optimizer": {"name": "sgd", "lr": 1.0}, "clip_value": bound}
    budget = Budget.model_validate({**settings, "stages": [{"name": "all", "episodes": 2}]})
    source = source_for(protocol)
    stage = begin_stage(Training(net.train(), source, protocol, budget, 0, tmp_path / "checkpoint", {}), 0)
    assert isinstance(stage.objective, EpisodesObjective)
    before = [each.detach().clone() for each in net.parameters()]
    wanted = meta_gradients(net, plain_loss(net, stage.objective.draws.episodes(np.arange(2)), 2))
    assert max(float(each.abs().max()) for each in wanted) > bound
    stage.advance(Progress())
    for start, after, gradient in zip(before, net.parameters(), wanted, strict=True):
        torch.testing.assert_close(start - after, gradient.clamp(-bound, bound), rtol=1e-3, atol=1e-5)


def test_the_weights_of_other_nets_keep_their_names_and_reptile_takes_the_strided_one() -> None:
    names = set(MAML(Task(WAYS, (1, 28, 28), "n_way_k_shot", None)).state_dict())
    assert {"learner.body.norms.0.scale", "learner.body.norms.0.shift", "learner.body.norms.0.usual"} <= names
    reptile = Reptile(Task(20, (1, 28, 28), "n_way_k_shot", None), net="strided", channels=64)
    assert reptile.learner.classify.in_features == 256
