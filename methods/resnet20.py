"""ResNet-20 for CIFAR (He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Task
from harness.method.option_types import Count
from methods.nn.classifier import Classifier, he_initialised

WIDTHS = (16, 32, 64)
"""Channels of the three stages."""

BLOCKS = 3
"""Blocks of a stage; each has two convolutions."""


class ResNet20(Classifier):
    """A 3x3 convolution, nine residual blocks of two, the mean over space and a linear layer.

    Each convolution is followed by batch normalisation. The second and third stage begin with stride 2. Shortcuts have
    no parameters (`shortcut`), as He et al. have it on CIFAR: 269 722 parameters with 10 classes.

    Options
    -------
    resolution : side to which images are average-pooled first, or None for their own size.
    """

    def __init__(self, task: Task, resolution: Count | None = None) -> None:
        super().__init__(task, resolution)
        self.stem = nn.Conv2d(task.image_shape[0], WIDTHS[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0])
        self.blocks = nn.Sequential(*(_Block(n, m, stride) for n, m, stride in blocks(WIDTHS)))
        self.classify = nn.Linear(WIDTHS[-1], task.ways)
        he_initialised(self)

    def logits(self, x: Tensor) -> Tensor:
        maps = self.blocks(F.relu(self.norm(self.stem(x)), inplace=True))
        return self.classify(maps.mean((2, 3)))


class _Block(nn.Module):
    """ReLU(shortcut(x) + BN(conv(ReLU(BN(conv(x))))))."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        self.first = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.relu(self.first_norm(self.first(x)), inplace=True)
        maps = self.second_norm(self.second(maps))
        return F.relu_(maps + shortcut(x, self.channels, self.stride))


def blocks(widths: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Channels before, channels and stride of the nine blocks."""
    found, before = [], widths[0]
    for stage, channels in enumerate(widths):
        for block in range(BLOCKS):
            found.append((before, channels, 2 if stage and not block else 1))
            before = channels
    return found


def shortcut(x: Tensor, channels: int, stride: int) -> Tensor:
    """Maps [N, C, H, W] as a block's output has them: every `stride`-th pixel, channels that are new are zero."""
    if stride > 1:
        x = x[:, :, ::stride, ::stride]
    missing = channels - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, missing // 2, missing - missing // 2)) if missing else x
