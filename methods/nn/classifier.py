"""What nets for ordinary classification share: one image a step, no label within an episode."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from methods.nn.maps import channels_last

SUPERVISED = ("supervised",)
"""Kinds of protocols whose classes are those of training, so that weights alone can tell them apart."""


class Classifier(Method):
    """The base of nets without memory: a subclass defines `logits`. The state is empty: [B, 0].

    `resolution` is the side to which images are average-pooled first, or None for their own size.
    """

    kinds = SUPERVISED

    def __init__(self, task: Task, resolution: int | None) -> None:
        super().__init__(task)
        self.resolution = resolution

    def logits(self, x: Tensor) -> Tensor:
        """Logits [N, ways] of images [N, C, h, w] at the resolution, each by itself."""
        raise TypeError(f"{type(self).__name__} does not define logits()")

    def start(self, episodes: int) -> State:
        return next(self.parameters()).new_zeros(episodes, 0)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return self.logits(pooled_images(x, self.resolution)), state

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        return self.logits(pooled_images(x.flatten(0, 1), self.resolution)).unflatten(0, x.shape[:2])


def pooled_images(x: Tensor, resolution: int | None) -> Tensor:
    """Images [N, C, H, W] average-pooled to `resolution` x `resolution`, or of their own size; in channels-last memory,
    on which the convolutions of CPUs and tensor cores are fastest."""
    x = channels_last(x)
    return x if resolution is None else F.adaptive_avg_pool2d(x, resolution)


def he_initialised(net: nn.Module) -> None:
    """Draws the weights of all convolutions as He et al. 2015 have it for nets of ReLUs; biases begin at zero."""
    for each in net.modules():
        if isinstance(each, nn.Conv2d):
            nn.init.kaiming_normal_(each.weight, mode="fan_out", nonlinearity="relu")
            if each.bias is not None:
                nn.init.zeros_(each.bias)
