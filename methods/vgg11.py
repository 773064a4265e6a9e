"""VGG-11 (Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015), as
it is used on CIFAR and in table 5 of Babu, Savarese and Maire 2021."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Task
from harness.method.option_types import Count
from methods.nn.classifier import Classifier, he_initialised
from methods.nn.maps import max_pool

WIDTHS = (64, 128, 256, 256, 512, 512, 512, 512)
"""Channels of the eight convolutions."""

_POOLED = (0, 1, 3, 5, 7)
"""Convolutions that a 2x2 max-pooling follows."""


class VGG11(Classifier):
    """Eight 3x3 convolutions, each with batch normalisation and ReLU, five 2x2 max-poolings, and one linear layer.

    32x32 images leave the last pooling as 512 features; of larger maps the mean over space is taken. This head in
    place of the three linear layers of the original is what 9.2 M parameters say (9 231 114 with 10 classes).

    Options
    -------
    resolution : side to which images are average-pooled first, or None for their own size. A pooling that has nothing
        left to pool is left out (the last one from 16x16).
    """

    def __init__(self, task: Task, resolution: Count | None = None) -> None:
        super().__init__(task, resolution)
        before = (task.image_shape[0], *WIDTHS)
        self.convs = nn.ModuleList(nn.Conv2d(n, m, 3, padding=1) for n, m in zip(before, WIDTHS, strict=False))
        self.norms = nn.ModuleList(map(nn.BatchNorm2d, WIDTHS))
        self.classify = nn.Linear(WIDTHS[-1], task.ways)
        he_initialised(self)

    def logits(self, x: Tensor) -> Tensor:
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = pooled(F.relu(norm(conv(x)), inplace=True), layer)
        return self.classify(x.mean((2, 3)))


def pooled(maps: Tensor, layer: int) -> Tensor:
    """The maps after a layer of eight, 2x2 max-pooled where VGG-11 does so and there are 2x2 to pool."""
    return max_pool(maps) if layer in _POOLED and min(maps.shape[-2:]) > 1 else maps
