"""OPN: online prototypical networks (Ren, Iuzzolino, Mozer and Zemel, "Wandering within a world", ICLR 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Batch, Features, Trainable, features_of
from methods.nn import class_means
from methods.nn.backbones import Conv4
from methods.nn.novelty import among_seen, loss_among_seen, nearest


class OPN(Trainable, Method):
    """The running mean of the features of each class; the nearest mean answers.

    On the label y of a sample with features h: p_y <- (n_y p_y + h) / (n_y + 1), n_y <- n_y + 1. The logits of
    classes seen are -|h - p_k|^2, or tau cos(h, p_k) with tau learned from 10. An "unknown" logit
    u = (min_k d_k - beta) / gamma, with beta and gamma learned, is trained to tell first presentations; it adds
    its loss and never answers, since protocols here have no "unknown" class. Queries come after every class was
    seen, so that there it has nothing to learn and is left out.

    It must be told the label delay d, and keeps the features of the last d samples in its state. On support pairs,
    which need no delay, it is a prototypical network (Snell, Swersky and Zemel, NeurIPS 2017).

    Options
    -------
    channels : width of the conv net (`Conv4`).
    similarity : 'euclidean' (the source's choice for Omniglot) or 'cosine' (its choice for natural images).
    unknown_weight : weight of the "unknown" loss; 1 in the source.
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        channels: int = 64,
        similarity: Literal["euclidean", "cosine"] = "euclidean",
        unknown_weight: float = 1.0,
    ) -> None:
        super().__init__(task)
        self.similarity, self.unknown_weight = similarity, unknown_weight
        conv = Conv4(task.image_shape[0], channels)
        self.encode: nn.Module = conv
        self.dim = conv.features(task.image_shape)
        self.beta = nn.Parameter(torch.tensor(10.0 if similarity == "euclidean" else -10.0))
        self.gamma = nn.Parameter(torch.tensor(1.0))
        self.meets_new = task.kind in ("online_few_shot", "delayed_label")
        for each in (self.beta, self.gamma):
            each.requires_grad_(self.meets_new)
        if similarity == "cosine":
            self.tau = nn.Parameter(torch.tensor(10.0))

    def start(self, episodes: int) -> State:
        """Prototypes [B, ways, D], their counts [B, ways], and features [B, d, D] that await their labels."""
        return class_means.start(self.beta, episodes, self.task.ways, self.task.label_delay or 0, self.dim, self.dim)

    def observe(self, state: State, feedback: Feedback) -> State:
        """Moves the prototype of the revealed class towards the pair's features, or the oldest pending ones."""
        shown = state["pending"][:, 0] if feedback.x is None else self.encode(feedback.x)
        return class_means.learned(state, shown, feedback.target)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.encode(x)
        logits = self._logits(features, state["means"], state["counts"])
        return logits, {**state, "pending": torch.cat([state["pending"][:, 1:], features.unsqueeze(1)], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images through the conv net at once, and the running means as one cumulative sum."""
        delay = self.task.label_delay
        assert delay is not None
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self._logits(features, *class_means.streamed(features, feedback.target, delay, self.task.ways))

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images through the conv net at once, and the means as one sum."""
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        state, labelled = class_means.due(state, features, feedback.target, pairs=feedback.x is not None)
        return class_means.absorbed(state, labelled, feedback.target)

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries beside the same prototypes, which need no copy for each."""
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self._logits(features, state["means"].unsqueeze(1), state["counts"].unsqueeze(1))

    def memoryless_features(self) -> Features:
        return features_of(self, "encode")

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes at steps whose class was seen; in streams, the "unknown" loss at all."""
        logits = logits.float()
        unknown = (-nearest(logits) - self.beta) / self.gamma if self.meets_new else None
        return loss_among_seen(logits, batch, unknown, self.unknown_weight)

    def _logits(self, features: Tensor, prototypes: Tensor, counts: Tensor) -> Tensor:
        """Logits [..., ways] from features [..., D], prototypes [..., ways, D] and counts [..., ways]."""
        if self.similarity == "cosine":
            near = self.tau * F.cosine_similarity(features.unsqueeze(-2), prototypes, dim=-1)
        else:
            near = -(features.unsqueeze(-2) - prototypes).square().sum(-1)
        return among_seen(near, counts > 0)
