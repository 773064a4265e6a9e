"""Feature extractors without memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conv4(nn.Module):
    """The four-layer net of the few-shot field (Vinyals et al. 2016): 3x3 convolution, BN, ReLU, 2x2 max-pool.

    Maps [N, C, H, W] to [N, channels * (H // 16) * (W // 16)]: 64 features from 28x28, 256 from 32x32 with
    64 channels. `final_relu=False` leaves the last ReLU off, for features that are compared by angle.
    """

    def __init__(self, in_channels: int, channels: int = 64, final_relu: bool = True) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        for layer in range(4):
            layers.append(nn.Conv2d(in_channels if layer == 0 else channels, channels, 3, padding=1))
            layers.append(nn.BatchNorm2d(channels))
            if layer < 3 or final_relu:
                layers.append(nn.ReLU())
            layers.append(nn.MaxPool2d(2))
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
        # Channels-last memory is what the convolutions of CPUs and tensor cores are fastest on.
        return self.layers(x.contiguous(memory_format=torch.channels_last))
