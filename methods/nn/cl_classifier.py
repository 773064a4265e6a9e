"""What nets of convolutional LSTM layers for ordinary classification share (Babu et al. 2021, section 4.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from harness.method.interface import Feedback, Method, State, Task
from methods.nn.classifier import SUPERVISED, pooled_images
from methods.nn.conv_lstm import ConvLSTM

Norm = Literal["gates", "outputs", "none"]


class Layer(nn.Module):
    """A convolutional LSTM layer in place of a convolution, with its normalisation."""

    def __init__(self, before: int, channels: int, norm: Norm, forget_bias: float, stride: int = 1) -> None:
        super().__init__()
        normalize = norm == "gates"
        self.cell = ConvLSTM(before, channels, forget_bias=forget_bias, stride=stride, normalize=normalize)
        self.norm = nn.BatchNorm2d(channels) if norm == "outputs" else nn.Identity()


Through = Callable[[Layer, Tensor], Tensor]
"""Sends maps through a layer, whose memory it stores; layers must always be used in the same order."""


class CLClassifier(Method):
    """The base of nets whose convolutions are convolutional LSTM layers.

    The state holds h and c of each layer in the order in which they are gone through, and none before the first image:
    all memory is zero then, and the hidden convolutions of zeros are left out. A subclass gives `features` and builds
    `classify`. `steps` is how often an image is shown; the answer is that of the last time.
    """

    kinds = SUPERVISED
    classify: nn.Linear

    def __init__(self, task: Task, steps: int, resolution: int | None) -> None:
        super().__init__(task)
        self.steps, self.resolution = steps, resolution

    def features(self, x: Tensor, through: Through) -> Tensor:
        """Features [N, D] of images [N, C, H, W]."""
        raise TypeError(f"{type(self).__name__} does not define features()")

    def start(self, episodes: int) -> State:
        return {"cells": []}

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        before, after = iter(state["cells"]), []

        def through(layer: Layer, maps: Tensor) -> Tensor:
            maps, memory = layer.cell.sequence(maps, next(before, None), self.steps)
            after.append(memory)
            return layer.norm(maps)

        image = pooled_images(x, self.resolution)
        found = self.features(image if self.steps == 1 else image.repeat(self.steps, 1, 1, 1), through)
        return self.classify(found[-len(x) :]), {"cells": after}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """The one step of a supervised episode, whose state is not used."""
        return self.predict(self.start(x.shape[1]), x[0])[0].unsqueeze(0)
