"""Backbones: ResNet-12 recomputed from its weights alone, its size, and starting weights that methods share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.method.interface import Task
from harness.method.registry import build_method, load_method
from harness.util.errors import UserError
from methods.nn.backbones import Backbone, Conv4, ResNet12


def randomised(net: torch.nn.Module) -> torch.nn.Module:
    """The net in double precision with normalisation that is not trivial, in evaluation mode."""
    random = torch.Generator().manual_seed(3)
    for each in net.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            for values, low in ((each.running_mean, -0.5), (each.running_var, 0.5), (each.weight, 0.5)):
                assert values is not None
                values.data = torch.rand(values.shape, generator=random) + low
    return net.double().eval()


def normed(x: Tensor, values: dict[str, Tensor], name: str) -> Tensor:
    mean, var, gain, shift = (
        values[f"{name}.{each}"].view(-1, 1, 1) for each in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + shift


def recomputed(values: dict[str, Tensor], x: Tensor) -> Tensor:
    """Features of ResNet-12 by plain functions of its state dict."""
    for block in range(4):
        inner = x
        for layer in range(3):
            place = f"blocks.{block}.layers.{3 * layer}"
            after = f"blocks.{block}.layers.{3 * layer + 1}"
            inner = normed(F.conv2d(inner, values[f"{place}.weight"], padding=1), values, after)
            if layer < 2:
                inner = torch.maximum(inner, 0.1 * inner)
        past = normed(F.conv2d(x, values[f"blocks.{block}.past.0.weight"]), values, f"blocks.{block}.past.1")
        total = inner + past
        total = torch.maximum(total, 0.1 * total)
        height, width = (side // 2 * 2 for side in total.shape[-2:])
        x = total[..., :height, :width].unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    return x.flatten(2).mean(-1)


@pytest.mark.parametrize("side", [16, 32, 42])
def test_resnet12_is_what_its_weights_say(side: int) -> None:
    net = randomised(ResNet12(3, (4, 6, 6, 8)))
    x = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(side)).double()
    torch.testing.assert_close(net(x), recomputed(net.state_dict(), x))


@pytest.mark.parametrize(("widths", "millions"), [((64, 128, 256, 512), 7.995), ((64, 160, 320, 640), 12.424)])
def test_resnet12_has_the_size_of_the_field(widths: tuple[int, ...], millions: float) -> None:
    """Three 3x3 and one 1x1 convolution a block, and two numbers a channel of each of their four normalisations."""
    expected = 0
    for before, after in zip((3, *widths), widths, strict=False):
        expected += 9 * before * after + 18 * after**2 + before * after + 8 * after
    found = sum(each.numel() for each in ResNet12(3, widths).parameters())
    assert found == expected
    assert found == pytest.approx(millions * 1e6, rel=1e-3)


def test_widths_of_conv4_are_those_of_its_layers() -> None:
    net = Conv4(3, [4, 4, 6, 8], final_relu=False)
    shapes = [tuple(each.shape[:2]) for name, each in net.named_parameters() if each.dim() == 4]
    assert shapes == [(4, 3), (4, 4), (6, 4), (8, 6)]
    features = net.eval()(torch.randn(5, 3, 32, 32))
    assert features.shape == (5, net.features((3, 32, 32))) == (5, 32)
    assert (features < 0).any()


def test_the_net_sees_images_at_its_resolution() -> None:
    net = Backbone((3, 84, 84), resolution=42, channels=4).eval()
    x = torch.randn(2, 3, 84, 84)
    assert net.dim == 4 * 2 * 2
    torch.testing.assert_close(net(x), net.net(F.avg_pool2d(x, 2)))


@pytest.mark.parametrize("net", ["conv4", "resnet12"])
def test_methods_that_name_the_same_net_begin_with_the_same_weights(net: str) -> None:
    task = Task(5, (3, 32, 32), "online_few_shot", 1, 20)
    options = {"backbone": net, "channels": 4}

    def started(name: str, seed: int = 0) -> dict[str, Tensor]:
        return build_method(load_method(name).cls, task, options, seed).backbone.net.state_dict()

    first = started("bauer")
    for name in ("ppa", "deml", "gidaris", "norml"):
        for key, each in started(name).items():
            assert torch.equal(each, first[key]), (name, key)
    assert not torch.equal(next(iter(started("ppa", 1).values())), next(iter(first.values())))


def test_what_cannot_be_is_refused_in_words() -> None:
    task = Task(5, (3, 32, 32), "online_few_shot", 1, 20)
    for options, why in (({"widths": [8, 8]}, "widths are four"), ({"resolution": 8}, "vanish in four")):
        with pytest.raises(UserError, match=why):
            build_method(load_method("ppa").cls, task, options, 0)
