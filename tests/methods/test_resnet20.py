"""ResNet-20 against a plain forward pass over its weights, and against the size that the paper prints."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.cards import CARDS
from harness.data.dataset import card_table
from harness.episodes.plan import plan_episodes
from harness.evaluation.cost import measured_cost
from harness.method.interface import Feedback, Task
from harness.method.registry import build_method
from harness.protocol.models import PROTOCOL
from methods.resnet20 import ResNet20
from tests.helpers.unsettled import unsettled


def built(side: int = 32, **options: object) -> ResNet20:
    return build_method(ResNet20, Task(10, (3, side, side), "supervised"), options, 0)  # type: ignore[return-value]


def plain(method: ResNet20, x: Tensor, training: bool) -> Tensor:
    """He et al. 2016, section 4.2: a stem, then stages of 16, 32 and 64 channels on 32, 16 and 8 pixels."""
    w = {name: each.clone() if "running" in name else each for name, each in method.state_dict(keep_vars=True).items()}

    def norm(maps: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(maps, mean, variance, scale, shift, training=training)

    maps = norm(F.conv2d(x, w["stem.weight"], padding=1), "norm").relu()
    for number in range(9):
        at, channels = f"blocks.{number}", 16 << number // 3
        stride = 2 if number in (3, 6) else 1
        inner = norm(F.conv2d(maps, w[f"{at}.first.weight"], stride=stride, padding=1), f"{at}.first_norm").relu()
        inner = norm(F.conv2d(inner, w[f"{at}.second.weight"], padding=1), f"{at}.second_norm")
        if stride == 2:  # option A: every other pixel, as many zero channels on either side
            zeros = maps.new_zeros(len(maps), channels // 4, *inner.shape[2:])
            maps = torch.cat([zeros, F.avg_pool2d(maps, 1, 2), zeros], 1)
        assert inner.shape[1:] == (channels, *maps.shape[2:])
        maps = (maps + inner).relu()
    return maps.sum((2, 3)) / maps[0, 0].numel() @ w["classify.weight"].T + w["classify.bias"]


@pytest.mark.parametrize("training", [False, True])
def test_answers_are_those_of_a_plain_forward_pass_in_value_and_gradient(training: bool) -> None:
    method = unsettled(built()).double().train(training)
    x = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    theirs = plain(method, x, training)
    ours = method.rollout(x.unsqueeze(0), Feedback(torch.full((1, 3), -1)))[0]
    torch.testing.assert_close(ours, theirs)
    weights = list(method.parameters())
    gradients = [torch.autograd.grad(each.square().sum(), weights) for each in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    assert all(each.any() for each in gradients[0])


def test_parameters_are_those_of_table_5() -> None:
    method = built()
    count = sum(each.numel() for each in method.parameters())
    assert count == 269_722
    assert round(count / 1e6, 1) == 0.3
    assert sum(each.numel() for name, each in method.named_parameters() if "norm" not in name) == 268_346


def test_the_cost_is_41_million_multiplications() -> None:
    """He et al. do not print it for CIFAR; by the sizes of the maps it is 40.55 M, with the linear layer."""
    protocol = PROTOCOL.validate_python({"kind": "supervised", "title": "CIFAR-10", "dataset": "cifar10"})
    plan = plan_episodes(protocol, card_table(CARDS["cifar10"], "test"), "test", 0, [0])
    expected = (
        2 * 9 * (32 * 32 * (3 * 16 + 6 * 16**2) + 16 * 16 * (16 * 32 + 5 * 32**2) + 8 * 8 * (32 * 64 + 5 * 64**2))
    )
    cost = measured_cost(built(), plan)
    assert cost.gflop_per_step == pytest.approx((expected + 2 * 640) / 1e9)
    assert cost.state_bytes == 0


def test_a_resolution_pools_the_image_first() -> None:
    method = unsettled(built(resolution=8)).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(method.predict(method.start(len(x)), x)[0], plain(method, F.avg_pool2d(x, 4), False))
