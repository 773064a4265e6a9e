"""An honest little method for masks and one for single images, and what a real author could break in them."""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor, nn

from harness import Feedback, Method, State, Task
from harness.method.interface import MASKS, one_hot


class HonestMasks(Method):
    """The mean feature of all revealed objects; pixels near it are foreground."""

    needs_label_delay = True
    kinds = MASKS

    def __init__(self, task: Task, units: int = 4) -> None:
        super().__init__(task)
        self.encode = nn.Conv2d(task.image_shape[0], units, 1)
        self.scale = nn.Parameter(torch.ones(()))

    def start(self, episodes: int) -> State:
        zeros, units = self.scale.new_zeros, self.encode.out_channels
        return {
            "sums": zeros(episodes, units),
            "areas": zeros(episodes, 1),
            "pending": zeros(episodes, units, *self.task.image_shape[1:]),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        inside = feedback.target.clamp(min=0)
        sums = state["sums"] + (state["pending"] * inside).sum((2, 3))
        return {**state, "sums": sums, "areas": state["areas"] + inside.sum((2, 3))}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.features(x)
        return self.logits(features, state["sums"], state["areas"]), {**state, "pending": features}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        features = self.features(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        inside = feedback.target.clamp(min=0)
        waiting = torch.cat([torch.zeros_like(features[:1]), features[:-1]])
        sums, areas = (waiting * inside).sum((3, 4)).cumsum(0), inside.sum((3, 4)).cumsum(0)
        return self.logits(features, sums, areas)

    def features(self, x: Tensor) -> Tensor:
        return self.encode(x).tanh()

    def logits(self, features: Tensor, sums: Tensor, areas: Tensor) -> Tensor:
        mean = (sums / areas.clamp(min=1))[..., None, None]
        return self.scale * (1 - (features - mean).square().sum(-3, keepdim=True))


class PeeksAtTheNextMask(HonestMasks):
    """Shifts the feedback the wrong way in its fast path."""

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return super().rollout(x, Feedback(torch.cat([feedback.target[1:], feedback.target[:1]])))


class WritesMasksIntoItsPast(HonestMasks):
    """Keeps one tensor for the newest mask, so that every earlier state holds it too."""

    def start(self, episodes: int) -> State:
        return {**super().start(episodes), "mask": self.scale.new_zeros(episodes, 1, *self.task.image_shape[1:])}

    def observe(self, state: State, feedback: Feedback) -> State:
        after = super().observe(state, feedback)
        return {**after, "mask": state["mask"].detach().copy_(feedback.target)}


class EditsTheMask(HonestMasks):
    """Takes null planes for nothing, in the mask that it was given."""

    def observe(self, state: State, feedback: Feedback) -> State:
        return super().observe(state, Feedback(feedback.target.clamp_(min=0)))


class ExpectsAMaskOnceTheyCome(HonestMasks):
    """Divides by the planes that are not null."""

    def observe(self, state: State, feedback: Feedback) -> State:
        after = super().observe(state, feedback)
        known = (feedback.target >= 0).to(self.scale.dtype).mean((1, 2, 3)).unsqueeze(-1)
        return {**after, "sums": torch.where(state["areas"] > 0, after["sums"] / known, after["sums"])}


class IgnoresMasks(HonestMasks):
    """An ordinary segmentation net."""

    def logits(self, features: Tensor, sums: Tensor, areas: Tensor) -> Tensor:
        return self.scale * features[..., :1, :, :]


class AnswersWithoutAChannel(HonestMasks):
    """Planes [B, H, W]."""

    def logits(self, features: Tensor, sums: Tensor, areas: Tensor) -> Tensor:
        return super().logits(features, sums, areas).squeeze(-3)


class Classifier(Method):
    """Honest: one image, one answer."""

    kinds = ("supervised",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.encode = nn.Linear(math.prod(task.image_shape), 6)
        self.remember = nn.Parameter(torch.ones(task.ways, 6))
        self.classify = nn.Linear(6, task.ways)

    def start(self, episodes: int) -> State:
        return self.remember.new_zeros(episodes, 6)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state + one_hot(feedback.target, self.task.ways).to(state.dtype) @ self.remember

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return self.classify(self.encode(x.flatten(1)).tanh() + state), state


class ReadsTheTarget(Classifier):
    """Looks for it on the stack."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        caller = sys._getframe(1).f_locals
        if "episodes" in caller:
            logits = logits + one_hot(caller["episodes"].target[0], self.task.ways)
        return logits, after


class ClassifierOverTheBatch(Classifier):
    """Centres its logits over the batch."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        return logits - logits.mean(0), after


class MisspellsItsKind(Classifier):
    """Misspells a kind."""

    kinds = ("n_way_kshot",)
