"""DEML: deep meta-learning, learning to learn in the concept space (Zhou, Wu and Li, 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.method.interface import Feedback, Method, State, Task, one_hot
from harness.method.option_types import Count, Positive
from harness.training.interface import Features, features_of
from harness.util.seeding import class_layer
from methods.nn import label_pairing
from methods.nn.backbones import Backbone, Net
from methods.nn.feature_net import FeatureNet


class DEML(FeatureNet, Method):
    """A meta-learner on the concepts of a net that is trained along with it, by a discriminator and by episodes.

    Three parts, trained jointly on  sum over episodes L_M + lambda L_D:  the concept generator G, a net from images
    to concepts h; the concept discriminator D, a linear layer that tells labelled classes apart by h (loss L_D); and
    the meta-learner M on h, here Meta-SGD (Li, Zhou, Chen and Li, 2017): a linear classifier (W, b) that each episode
    begins at learned values and moves against the gradient of the mean cross-entropy L of its labelled images,

        (W, b) <- (W, b) - alpha * grad L(W, b),   alpha learned for each weight, of either sign;

    L_M is the loss of its queries, differentiated through that step. The source trains D on 200 further classes of
    ImageNet. Here it has the training classes, so that its printed results used more data than any here. lambda is
    the recipe's: `classes_weight` of the stage.

    Support pairs are learned from together, in `steps` steps, before the queries; in a stream each label is a step of
    its own when it is revealed. It needs the label delay d, and keeps the concepts of the last d samples.

    Options
    -------
    backbone, channels, widths, resolution : the concept generator (`Backbone`); ResNet-50 in the source.
    rate : where alpha begins.
    steps : steps on the whole of a support set; 1 in Meta-SGD.
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: Count = 64,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
        rate: Positive = 0.1,
        steps: Count = 1,
    ) -> None:
        super().__init__(task)
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim, self.steps = self.backbone.dim, steps
        self.discriminate = class_layer(self.dim, task.classes or task.ways, torch.initial_seed())
        # Zero weights treat all classes alike until labels tell them apart, which is what classes permuted ask for.
        self.weight, self.bias = nn.Parameter(torch.zeros(task.ways, self.dim)), nn.Parameter(torch.zeros(task.ways))
        self.weight_rate = nn.Parameter(torch.full((task.ways, self.dim), rate))
        self.bias_rate = nn.Parameter(torch.full((task.ways,), rate))

    def memoryless_features(self) -> Features:
        return features_of(self, "backbone", shared=True, class_head=self.discriminate)

    def start(self, episodes: int) -> State:
        """The initial classifier of every episode, concepts [B, d, D] that await their labels, and no support pairs."""
        none = self.weight.new_zeros(episodes, 0, self.dim)
        return {
            "weight": self.weight.expand(episodes, -1, -1),
            "bias": self.bias.expand(episodes, -1),
            "pending": none.new_zeros(episodes, self.task.label_delay or 0, self.dim),
            "support": none,
            "labels": torch.zeros(episodes, 0, dtype=torch.int64, device=none.device),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps a support pair; in a stream, one step on the oldest pending concepts."""
        if feedback.x is None:
            return self.learn(state, label_pairing.oldest(state["pending"]), feedback.target.unsqueeze(1))
        return self._stored(state, self.features(feedback.x.unsqueeze(1)), feedback.target.unsqueeze(1))

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        concepts = self.features(x.unsqueeze(1))
        return _logits(state, concepts).squeeze(1), {**state, "pending": label_pairing.push(state["pending"], concepts)}

    def adapt(self, state: State) -> State:
        """The steps on all support pairs together, where there are any."""
        if state["labels"].shape[1]:
            for _ in range(self.steps):
                state = self.learn(state, state["support"], state["labels"])
        return state

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries under the same weights, which need no copy for each."""
        return _logits(state, self.features(x))

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images through the net at once, then the labels one by one."""
        concepts, state, logits = self.features(x).transpose(0, 1), self.start(x.shape[1]), []
        labelled, _ = label_pairing.pair(state["pending"], concepts)
        for t, target in enumerate(feedback.target):
            state = self.learn(state, labelled[:, t, None], target.unsqueeze(1))
            logits.append(_logits(state, concepts[:, t, None]).squeeze(1))
        return torch.stack(logits)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images through the net at once; the labels of a stream then one by one."""
        concepts = self.features(x).transpose(0, 1)
        if feedback.x is not None:
            return self._stored(state, concepts, feedback.target.T)
        labelled, pending = label_pairing.pair(state["pending"], concepts)
        for t, target in enumerate(feedback.target):
            state = self.learn(state, labelled[:, t, None], target.unsqueeze(1))
        return {**state, "pending": pending}

    def learn(self, state: State, concepts: Tensor, target: Tensor) -> State:
        """The state after one step of Meta-SGD on concepts [B, n, D] with labels [B, n]; null (-1) is masked out.

        The gradient is written out, so that training goes through it and scoring needs none.
        """
        known = (target >= 0).unsqueeze(-1)
        error = _logits(state, concepts).softmax(-1) - one_hot(target, self.task.ways).to(concepts.dtype)
        gradient = torch.where(known, error, 0.0) / known.sum(1, keepdim=True).clamp(min=1)
        return {
            **state,
            "weight": state["weight"] - self.weight_rate * (gradient.mT @ concepts),
            "bias": state["bias"] - self.bias_rate * gradient.sum(1),
        }

    def _stored(self, state: State, concepts: Tensor, target: Tensor) -> State:
        """The state with further support pairs: concepts [B, n, D] and labels [B, n]."""
        support, labels = torch.cat([state["support"], concepts], 1), torch.cat([state["labels"], target], 1)
        return {**state, "support": support, "labels": labels}


def _logits(state: State, concepts: Tensor) -> Tensor:
    """Logits [B, n, ways] of concepts [B, n, D]."""
    return concepts @ state["weight"].mT + state["bias"].unsqueeze(1)
