"""Discriminative k-shot learning (Bauer, Rojas-Carulla, Swiatkowski, Schölkopf and Turner, 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import Feedback, State, Task, one_hot
from harness.method.option_types import Count, Positive
from harness.training.interface import Batch, Features, features_of
from harness.util.seeding import class_layer
from methods.nn.backbones import Backbone, Net
from methods.nn.memory_bank import MemoryBank
from methods.nn.novelty import among_seen, loss_among_seen
from methods.nn.softmax_map import fitted


class Bauer(MemoryBank):
    """Softmax weights of new classes, most probable under a Gaussian fitted to those of the training classes.

    Features h and a linear layer W over them learn to tell the training classes apart. The rows of W are then taken
    for draws from N(mu, sigma^2 I), with mu their mean and sigma^2 the mean square of what is left, and new classes
    have the weights

        argmin over w of  sum_i -log softmax(w h_i)[y_i]  +  1 / (2 sigma^2) sum_k |w_k - mu|^2

    over all labelled images i so far: a convex problem, solved anew (`fitted`) whenever an answer is wanted. Since mu
    is the same for all classes, it moves all logits alike and no answer; so w_k - mu is stored. Only classes that have
    labels are part of the softmax. There is nothing to train on episodes. (The source knows other priors, which it
    finds no better, and sampling in place of the maximum; both are left out.)

    The features of all labelled images are stored: its state grows with t. It needs the label delay d.

    Options
    -------
    backbone, channels, widths, resolution : the net (`Backbone`); ResNet-34 in the source.
    variance : sigma^2; null fits it to W.
    steps : steps of the solver.
    """

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: Count = 64,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
        variance: Positive | None = None,
        steps: Count = 50,
    ) -> None:
        super().__init__(task)
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim, self.given, self.steps = self.backbone.dim, variance, steps
        self.base = class_layer(self.dim, task.classes or task.ways, torch.initial_seed())

    def memoryless_features(self) -> Features:
        return features_of(self, "backbone", shared=True, class_head=self.base)

    def variance(self) -> Tensor | float:
        """sigma^2 of the prior."""
        if self.given is not None:
            return self.given
        weight = self.base.weight.detach()
        return (weight - weight.mean(0)).square().mean()

    def adapt(self, state: State) -> State:
        """Fits the weights [B, ways, D] from which all queries are answered."""
        return {**state, "weights": self.weights(state)}

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes, at scored steps whose class was seen."""
        return loss_among_seen(logits.float(), batch)

    def answer(self, state: State, samples: Tensor, known: Tensor | None = None) -> Tensor:
        assert known is None, "stepped through: every answer has a fit of its own"
        weights = state["weights"] if "weights" in state else self.weights(state)
        logits = samples @ weights.mT
        seen = one_hot(state["labels"], self.task.ways).sum(1) > 0
        return among_seen(logits, seen.unsqueeze(1).expand_as(logits))

    def rollout(self, x: Tensor, feedback: Feedback) -> None:  # type: ignore[override]
        """None: stepped through, since every answer has a fit of its own."""

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> None:
        """None: stepped through, as `rollout` is."""

    def weights(self, state: State) -> Tensor:
        """w_k - mu of every class, [B, ways, D], under the labels so far; zeros for classes without labels."""
        features = state["features"].detach()
        coefficients = fitted(features, state["labels"], self.task.ways, 1 / self.variance(), self.steps)
        return coefficients @ features
