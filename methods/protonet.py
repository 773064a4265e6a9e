"""Prototypical network (Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Batch, Features, Trainable, features_of
from methods.nn import class_means
from methods.nn.backbones import Backbone, Net
from methods.nn.novelty import among_seen, loss_among_seen


class ProtoNet(Trainable, Method):
    """The mean of the features of each class; the nearest mean answers.

        p_k = mean of f(x_i) over the labelled images i of class k;
        logit_k = -tau |f(x) - p_k|^2   or   tau cos(f(x), p_k).

    In a stream the means run: they are of what has been revealed so far, and of constant size. It must be told the
    label delay d, and keeps the features of the last d samples in its state.

    `OPN` is the same learner made for streams. This one has nothing to tell new classes by, so that its loss in a
    stream is cross-entropy among the classes seen and nothing else, and it has features that methods can share.

    Snell et al. train with more ways than they test (60 for 5 and 20 on Omniglot, 30 and 20 for 5 on mini-ImageNet),
    which they find better. Here a stage has at most the protocol's ways: what a row is compared with was trained for as
    many classes as it is asked about, and the harness leaves stages with more of them out.

    Options
    -------
    backbone, channels, widths, resolution : the net (`Backbone`); the source's is conv4 with 64 channels.
    similarity : 'euclidean' (the source's) or 'cosine' (what it compares with).
    scale : where tau begins, which is then learned (Oreshkin, Rodriguez and Lacoste, NeurIPS 2018). None is the
        source's 1 with 'euclidean', never learned; with 'cosine', where 1 tells no classes apart, 10, learned.
        Features that were trained on classes lie far from each other, so that only a small tau makes their distances
        logits.
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
        similarity: Literal["euclidean", "cosine"] = "euclidean",
        scale: float | None = None,
    ) -> None:
        super().__init__(task)
        if similarity not in ("euclidean", "cosine"):
            raise ValueError(f"similarity is 'euclidean' or 'cosine', not {similarity!r}")
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim = self.backbone.dim
        if scale is not None and scale <= 0:
            raise ValueError(f"scale is {scale}; it must be above 0")
        own = {"euclidean": 1.0, "cosine": 10.0}[similarity] if scale is None else scale
        self.scale = nn.Parameter(torch.tensor(own), similarity == "cosine" or scale is not None)
        self.similarity, self.delay = similarity, task.label_delay or 0

    def memoryless_features(self) -> Features:
        return features_of(self, "backbone", shared=True)

    def start(self, episodes: int) -> State:
        """Means [B, ways, D], their counts [B, ways], and features [B, d, D] that await their labels."""
        dim = self.dim
        return class_means.start(self.scale, episodes, self.task.ways, self.delay, dim, dim)

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
        """All queries beside the same means, which need no copy for each."""
        return self._logits(self._features(x), state["means"].unsqueeze(1), state["counts"].unsqueeze(1))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes, at scored steps whose class was seen."""
        return loss_among_seen(logits.float(), batch)

    def _features(self, x: Tensor) -> Tensor:
        return self.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _logits(self, features: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        """Logits [..., ways] from features [..., D], means [..., ways, D] and counts [..., ways]."""
        if self.similarity == "cosine":
            near = F.cosine_similarity(features.unsqueeze(-2), means, dim=-1)
        else:
            near = -(features.unsqueeze(-2) - means).square().sum(-1)
        return among_seen(self.scale * near, counts > 0)
