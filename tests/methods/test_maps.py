"""Memory layout and pooling of maps: values are those of the library."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods.nn.backbones import Conv4, ResNet12
from methods.nn.maps import channels_last, max_pool
from methods.oml import Strided

NETS: dict[str, Callable[[int], nn.Module]] = {
    "conv4": lambda channels: Conv4(channels, 8),
    "resnet12": lambda channels: ResNet12(channels, (8, 8, 8, 8)),
    "strided": lambda channels: Strided(channels, 8, (1, 2), True),
}


@pytest.mark.parametrize("shape", [(2, 3, 6, 4), (1, 2, 7, 5), (2, 9, 8)])
def test_max_pooling_is_that_of_the_library_with_and_without_a_graph(shape: tuple[int, ...]) -> None:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    expected = F.max_pool2d(x, 2)
    with torch.no_grad():
        assert torch.equal(max_pool(x), expected)
    assert torch.equal(max_pool(x.requires_grad_()), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_has_strides_that_convolutions_recognise(channels: int) -> None:
    x = torch.randn(2, channels, 6, 5)[:, :, :, 1:]
    laid_out = channels_last(x)
    assert torch.equal(laid_out, x)
    assert laid_out.stride() == (6 * 4 * channels, 1, 4 * channels, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("net", NETS)
def test_maps_of_nets_are_in_channels_last_memory_for_any_number_of_channels(net: str, channels: int) -> None:
    built, strides = NETS[net](channels), list[int]()

    def note(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        strides.append(output.stride(1))

    for module in built.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    built(torch.rand(2, channels, 32, 32))
    assert set(strides) == {1}


def test_pooling_before_the_relu_gives_the_values_and_gradients_of_pooling_after_it() -> None:
    torch.manual_seed(0)
    net, x = Conv4(1, 8), torch.randn(4, 1, 28, 28)
    net(x).square().sum().backward()
    found = [each.grad.clone() for each in net.parameters() if each.grad is not None]
    net.zero_grad()
    maps = channels_last(x)
    for layer in range(4):
        maps = F.max_pool2d(F.relu(net.layers[4 * layer + 1](net.layers[4 * layer](maps))), 2)
    maps.flatten(1).square().sum().backward()
    expected = [each.grad for each in net.parameters() if each.grad is not None]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
