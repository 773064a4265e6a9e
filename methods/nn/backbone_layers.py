"""The four layers of a `Backbone`, or its four blocks, one by one: for methods that change what is between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from methods.nn.backbones import Conv4, ResNet12

Normalise = Callable[[Tensor], Tensor]

LAYERS = 4


def slope_of(net: Conv4 | ResNet12) -> float:
    """Below zero, of the activation that ends a layer."""
    return 0.1 if isinstance(net, ResNet12) else 0.0


def norms_of(net: Conv4 | ResNet12, layer: int) -> list[nn.BatchNorm2d]:
    """The normalisation of a layer, from 0; of a block, those of its three convolutions and of what goes past them."""
    if isinstance(net, ResNet12):
        return [each for each in net.blocks[layer].modules() if isinstance(each, nn.BatchNorm2d)]
    norm: Any = net.layers[4 * layer + 1]
    return [norm]


def depth_of(net: Conv4 | ResNet12, layer: int) -> int:
    """How many channels a layer gives."""
    return norms_of(net, layer)[-1].num_features


def before(net: Conv4 | ResNet12, layer: int, h: Tensor, norms: Sequence[Normalise] | None = None) -> Tensor:
    """What a layer makes of its input before it is activated and pooled, with others in the place of its `norms_of`."""
    used = norms or norms_of(net, layer)
    if isinstance(net, Conv4):
        return used[0](net.layers[4 * layer](h))
    block: Any = net.blocks[layer]
    first, second, third = (block.layers[3 * depth] for depth in range(3))
    through = F.leaky_relu(used[0](first(h)), slope_of(net))
    through = F.leaky_relu(used[1](second(through)), slope_of(net))
    return used[2](third(through)) + used[3](block.past[0](h))


def active(net: Conv4 | ResNet12, a: Tensor) -> Tensor:
    """The activation that ends a layer."""
    return F.leaky_relu(a, slope_of(net)) if isinstance(net, ResNet12) else a.relu()


def gathered(net: Conv4 | ResNet12, h: Tensor) -> Tensor:
    """Features [N, D] of what the last layer gives, activated and pooled."""
    return h.mean((2, 3)) if isinstance(net, ResNet12) else h.flatten(1)
