"""What methods share that see every image through one net and through nothing else."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from harness.training.interface import Features, Trainable, features_of
from methods.nn.backbones import Backbone


class FeatureNet(Trainable, nn.Module):
    """The features of single images, for the method and for stages of its recipe; derive from it beside `Method`."""

    feature_net: ClassVar[str] = "backbone"
    """The name of the child that all images go through."""

    def features(self, x: Tensor) -> Tensor:
        """Features [M, N, D] of images [M, N, C, H, W], of which the net takes all at once."""
        return self.get_submodule(self.feature_net)(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def memoryless_features(self) -> Features:
        """The net's; a `Backbone` is alike in all methods that have it, and can be trained once for all of them."""
        shared = isinstance(self.get_submodule(self.feature_net), Backbone)
        return features_of(self, self.feature_net, shared)
