"""PPA: classifier weights predicted from activations (Qiao, Liu, Shen and Yuille, CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Batch, Features, Trainable, features_of
from methods.nn import class_means
from methods.nn.backbones import Backbone, Net
from methods.nn.novelty import among_seen, loss_among_seen


class PPA(Trainable, Method):
    """A learned map from the mean activation of a class to its row of the classifier.

    With activations a(x) of a net that tells the training classes apart, and s_k the mean of those of class k:

        w_k = phi(s_k),  phi(s) = N(V relu(U N(s)))  with  N(v) = v / |v|;   logit_k = tau w_k . N(a(x)).

    U and V begin as the identity, so that before phi is trained the nearest mean by angle answers; tau is learned. The
    source trains phi on softmax over all its training classes at once; here it is trained on episodes of training
    classes, over as many of them as the protocol has ways. (The source also trains on the validation classes and
    averages over ten crops; nothing here does.)

    It must be told the label delay d, and keeps the features of the last d samples in its state.

    Options
    -------
    backbone, channels, widths, resolution : the net (`Backbone`).
    scale : where tau begins; the source has no such factor and unnormalised activations in place of N(a(x)).
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: int = 64,
        widths: list[int] | None = None,
        resolution: int | None = None,
        scale: float = 10.0,
    ) -> None:
        super().__init__(task)
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim = self.backbone.dim
        self.scale = nn.Parameter(torch.tensor(scale))
        self.first, self.second = nn.Linear(self.dim, self.dim), nn.Linear(self.dim, self.dim)
        for each in (self.first, self.second):
            nn.init.eye_(each.weight)
            nn.init.zeros_(each.bias)
        self.delay = task.label_delay or 0

    def memoryless_features(self) -> Features:
        return features_of(self, "backbone", shared=True)

    def start(self, episodes: int) -> State:
        """Mean activations [B, ways, D], their counts [B, ways], and features [B, d, D] that await their labels."""
        return class_means.start(self.scale, episodes, self.task.ways, self.delay, self.dim, self.dim)

    def observe(self, state: State, feedback: Feedback) -> State:
        shown = state["pending"][:, 0] if feedback.x is None else self.backbone(feedback.x)
        return class_means.learned(state, shown, feedback.target)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.backbone(x)
        logits = self._logits(features, state["means"], state["counts"])
        return logits, {**state, "pending": torch.cat([state["pending"][:, 1:], features.unsqueeze(1)], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images through the net at once, and the running means as one cumulative sum."""
        features = self._features(x)
        means, counts = class_means.streamed(features, feedback.target, self.delay, self.task.ways)
        return self._logits(features, means, counts)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images through the net at once, and the means as one sum."""
        state, shown = class_means.due(state, self._features(x), feedback.target, feedback.x is not None)
        return class_means.absorbed(state, shown, feedback.target)

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries beside the same weights, which need no copy for each."""
        return self._logits(self._features(x), state["means"].unsqueeze(1), state["counts"].unsqueeze(1))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes, at scored steps whose class was seen."""
        return loss_among_seen(logits.float(), batch)

    def predicted(self, means: Tensor) -> Tensor:
        """phi: rows of the classifier [..., D] from mean activations [..., D]."""
        hidden = self.first(F.normalize(means, dim=-1)).relu()
        return F.normalize(self.second(hidden), dim=-1)

    def _features(self, x: Tensor) -> Tensor:
        return self.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _logits(self, features: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        """Logits [..., ways] from features [..., D], mean activations [..., ways, D] and counts [..., ways]."""
        near = (self.predicted(means) @ F.normalize(features, dim=-1).unsqueeze(-1)).squeeze(-1)
        return among_seen(self.scale * near, counts > 0)
