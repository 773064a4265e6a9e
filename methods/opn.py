"""OPN: online prototypical networks (Ren, Iuzzolino, Mozer and Zemel, "Wandering within a world", ICLR 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method import Feedback, Method, State, Task, one_hot
from methods.nn.backbones import Conv4
from methods.nn.novelty import among_seen, loss_among_seen, nearest


class OPN(Method):
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
        zeros = self.beta.new_zeros
        return {
            "prototypes": zeros(episodes, self.task.ways, self.dim),
            "counts": zeros(episodes, self.task.ways),
            "pending": zeros(episodes, self.task.label_delay or 0, self.dim),
        }

    def observe(self, state: State, feedback: Feedback) -> State:
        """Moves the prototype of the revealed class towards the pair's features, or the oldest pending ones."""
        hit = one_hot(feedback.target, self.task.ways).to(self.beta.dtype)
        counts = state["counts"] + hit
        step = (hit / counts.clamp(min=1)).unsqueeze(-1)
        shown = state["pending"][:, :1] if feedback.x is None else self.encode(feedback.x).unsqueeze(1)
        prototypes = state["prototypes"] + step * (shown - state["prototypes"])
        return {**state, "prototypes": prototypes, "counts": counts}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.encode(x)
        logits = self._logits(features, state["prototypes"], state["counts"])
        return logits, {**state, "pending": torch.cat([state["pending"][:, 1:], features.unsqueeze(1)], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images through the conv net at once, and the running means as one cumulative sum."""
        delay = self.task.label_delay
        assert delay is not None
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        hit = one_hot(feedback.target, self.task.ways).to(features.dtype)
        awaited = torch.cat([features.new_zeros(min(delay, len(x)), *features.shape[1:]), features[:-delay]])
        counts = hit.cumsum(0)
        sums = (hit.unsqueeze(-1) * awaited.unsqueeze(-2)).cumsum(0)
        return self._logits(features, sums / counts.clamp(min=1).unsqueeze(-1), counts)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        """All images through the conv net at once, and the means as one sum."""
        delay = self.task.label_delay or 0
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        fed = torch.cat([state["pending"].transpose(0, 1), features])
        hit = one_hot(feedback.target, self.task.ways).to(features.dtype)
        counts = state["counts"] + hit.sum(0)
        shown = torch.einsum("tbk,tbd->bkd", hit, fed[: len(x)])
        old = state["counts"].unsqueeze(-1) * state["prototypes"]
        prototypes = (old + shown) / counts.clamp(min=1).unsqueeze(-1)
        return {"prototypes": prototypes, "counts": counts, "pending": fed[len(fed) - delay :].transpose(0, 1)}

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries beside the same prototypes, which need no copy for each."""
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self._logits(features, state["prototypes"].unsqueeze(1), state["counts"].unsqueeze(1))

    def memoryless_features(self, x: Tensor) -> Tensor:
        return self.encode(x)

    def loss(self, logits: Tensor, target: Tensor, scored: Tensor) -> Tensor:
        """Cross-entropy among seen classes at steps whose class was seen; in streams, the "unknown" loss at all."""
        logits = logits.float()
        unknown = (-nearest(logits) - self.beta) / self.gamma if self.meets_new else None
        return loss_among_seen(logits, target, scored, unknown, self.unknown_weight)

    def _logits(self, features: Tensor, prototypes: Tensor, counts: Tensor) -> Tensor:
        """Logits [..., ways] from features [..., D], prototypes [..., ways, D] and counts [..., ways]."""
        if self.similarity == "cosine":
            near = self.tau * F.cosine_similarity(features.unsqueeze(-2), prototypes, dim=-1)
        else:
            near = -(features.unsqueeze(-2) - prototypes).square().sum(-1)
        return among_seen(near, counts > 0)
