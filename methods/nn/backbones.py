"""Feature extractors without memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from harness.util.seeding import seeded
from methods.nn.maps import MaxPool, channels_last, max_pool

Net = Literal["conv4", "resnet12"]


class Conv4(nn.Module):
    """The four-layer net of the few-shot field (Vinyals et al. 2016): 3x3 convolution, BN, ReLU, 2x2 max-pool.

    Maps [N, C, H, W] to [N, channels * (H // 16) * (W // 16)]: 64 features from 28x28, 256 from 32x32 with
    64 channels. `channels` may be four widths, one a layer, as 64-64-128-128 (Gidaris and Komodakis, CVPR 2018).
    `final_relu=False` leaves the last ReLU off, for features that are compared by angle.
    """

    def __init__(self, in_channels: int, channels: int | Sequence[int] = 64, final_relu: bool = True) -> None:
        super().__init__()
        widths = [channels] * 4 if isinstance(channels, int) else list(channels)
        self.channels = widths[-1]
        layers: list[nn.Module] = []
        for layer, (before, after) in enumerate(zip([in_channels, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(before, after, 3, padding=1))
            layers.append(nn.BatchNorm2d(after))
            layers.append(MaxPool())
            if layer < 3 or final_relu:
                layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def features(self, image_shape: tuple[int, int, int]) -> int:
        """Number of features of one image of shape (C, H, W); raises ValueError below 16x16."""
        height, width = image_shape[1] // 16, image_shape[2] // 16
        if not height * width:
            raise ValueError(
                f"images of {image_shape[1]}x{image_shape[2]} vanish in four 2x2 poolings; use 16x16 or more"
            )
        return self.channels * height * width

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(channels_last(x))


class ResNet12(nn.Module):
    """The residual net of the few-shot field (Mishra et al., "SNAIL"; widths as Sun et al., CVPR 2019, have them).

    Four blocks of three 3x3 convolutions, each with BN and between them leaky ReLU of slope 0.1; a 1x1 convolution with
    BN goes past each block, their sum passes the leaky ReLU and a 2x2 max-pool; then the mean over all places. Maps
    [N, C, H, W] to [N, widths[-1]]. Convolutions have no bias, which BN would take off again, and start as He et al.
    (2015) advise.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.channels = widths[-1]
        self.blocks = nn.Sequential(*map(_Block, [in_channels, *widths[:-1]], widths))

    def features(self, image_shape: tuple[int, int, int]) -> int:
        """Number of features of one image of shape (C, H, W); raises ValueError below 16x16."""
        if min(image_shape[1:]) < 16:
            raise ValueError(
                f"images of {image_shape[1]}x{image_shape[2]} vanish in four 2x2 poolings; use 16x16 or more"
            )
        return self.channels

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(channels_last(x)).mean((2, 3))


class _Block(nn.Module):
    """One residual block of `ResNet12`, which halves the sides."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for depth in (before, after, after):
            layers += [nn.Conv2d(depth, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
        self.layers = nn.Sequential(*layers[:-1])
        self.past = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        for each in self.modules():
            if isinstance(each, nn.Conv2d):
                nn.init.kaiming_normal_(each.weight, 0.1, "fan_out", "leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(max_pool(self.layers(x) + self.past(x)), 0.1)


class Backbone(nn.Module):
    """A net chosen by name, for methods that share features trained on the training classes.

    Images [N, C, H, W] are average-pooled to `resolution` x `resolution`, if that is given, and go through the net. Its
    starting weights are a
    function of its own arguments and of the seed that the method is built under, whatever else the method draws: so
    that methods which name the same net begin with the same one, and the harness trains it once for all of them.

    Arguments, which methods hand on as options
    -------------------------------------------
    net : 'conv4' (`Conv4`) or 'resnet12' (`ResNet12`).
    channels : width of each layer of conv4, or of the first block of resnet12, which then doubles.
    widths : four widths in their place, one a layer or block, as [64, 160, 320, 640].
    resolution : side of the images that the net sees; null leaves them as they are.
    final_relu : whether conv4 has its last ReLU.

    Raises ValueError for images that are too small for the net, and for other than four widths.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        net: Net = "conv4",
        channels: int = 64,
        widths: list[int] | None = None,
        resolution: int | None = None,
        final_relu: bool = True,
    ) -> None:
        super().__init__()
        depth, height, width = image_shape
        if widths is not None and len(widths) != 4:
            raise ValueError(f"widths are four, one a layer or block, not {widths}")
        self.pool: nn.Module = nn.Identity()
        if resolution is not None:
            self.pool, height, width = nn.AdaptiveAvgPool2d(resolution), resolution, resolution
        if net == "conv4":
            sizes = widths or [channels] * 4
        else:
            sizes = widths or [channels * 2**block for block in range(4)]

        def make() -> Conv4 | ResNet12:
            return Conv4(depth, sizes, final_relu) if net == "conv4" else ResNet12(depth, sizes)

        self.net = seeded(make, "backbone", torch.initial_seed(), net, depth, *sizes)
        self.dim = self.net.features((depth, height, width))
        self.image_shape = (depth, height, width)

    def extra_repr(self) -> str:
        return f"sees {self.image_shape}"

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.pool(x))
