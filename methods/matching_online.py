"""Online matching network: every revealed image is kept, and attention over all of them answers.

Vinyals et al., "Matching networks for one shot learning", NeurIPS 2016, without full context embeddings; its online
form by Ren et al., "Wandering within a world: online contextualized few-shot learning", ICLR 2021.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Batch, Features, Trainable, features_of
from methods.nn import kept
from methods.nn.backbones import Conv4
from methods.nn.novelty import UNSEEN, among_seen, loss_among_seen, nearest


class MatchingOnline(Trainable, Method):
    """The chance of a class is the attention that its revealed images get.

    With features h of the image and e_i of the images revealed so far, with labels y_i:

        p_k = sum of softmax_i(7.5 cos(h, e_i)) over the i with y_i = k;   logit_k = log p_k  for classes seen.

    The "unknown" logit u = (beta - max_i cos(h, e_i)) / gamma, with beta learned from 0 and gamma from 1, is trained to
    tell first presentations, as in `OPN`, and never answers. Logits are moved alike until the largest is -u; where
    queries follow, which is after every class was seen, there is no u and they are not moved.

    It must be told the label delay d, and keeps the features of all images: its state grows with t. On support
    pairs it is a matching network. An image whose label is null is never attended to.

    Options
    -------
    channels : width of the conv net (`Conv4`).
    similarity : 'cosine' or 'euclidean' (softmax over -|h - e_i|^2, without the factor; the source knows both).
    scale, learned_scale : the factor 7.5 of the cosines, and whether it is trained.
    unknown_weight : weight of the "unknown" loss; 1 in the source.
    """

    needs_label_delay = True
    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        channels: int = 64,
        similarity: Literal["cosine", "euclidean"] = "cosine",
        scale: float = 7.5,
        learned_scale: bool = False,
        unknown_weight: float = 1.0,
    ) -> None:
        super().__init__(task)
        self.similarity, self.unknown_weight = similarity, unknown_weight
        self.encode = Conv4(task.image_shape[0], channels)
        self.dim = self.encode.features(task.image_shape)
        self.scale = nn.Parameter(torch.tensor(scale), learned_scale and similarity == "cosine")
        self.meets_new = task.kind in ("online_few_shot", "delayed_label")
        self.beta = nn.Parameter(torch.tensor(0.0), self.meets_new)
        self.gamma = nn.Parameter(torch.tensor(1.0), self.meets_new)
        self.delay = task.label_delay or 0

    def start(self, episodes: int) -> State:
        """No images yet: features [B, n, D] and labels [B, n] of those revealed, and features [B, m, D] pending."""
        none = self.beta.new_zeros(episodes, 0, self.dim)
        labels = torch.zeros(episodes, 0, dtype=torch.int64, device=none.device)
        return {"exemplars": none, "labels": labels, "pending": none.clone()}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps the label with the pair's features, or with the oldest pending ones once d images are pending."""
        labels, pending = feedback.target.unsqueeze(1), state["pending"]
        if feedback.x is not None:
            return self._kept(state, self.encode(feedback.x).unsqueeze(1), labels, pending)
        return self._kept(state, *kept.due(pending, self.delay, pending[:, :0], labels))

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.encode(x).unsqueeze(1)
        logits = self._logits(features, state["exemplars"], state["labels"])
        return logits.squeeze(1), {**state, "pending": torch.cat([state["pending"], features], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images through the conv net at once, and beside all others that were revealed before them."""
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]).transpose(0, 1)
        revealed = kept.revealed_by_step(len(x), self.delay, x.device)
        due = revealed.shape[1]
        labels = feedback.target[len(x) - due :].T
        return self._logits(features, features[:, :due], labels, revealed).transpose(0, 1)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2]).transpose(0, 1)
        if feedback.x is not None:
            return self._kept(state, features, feedback.target.T, state["pending"])
        return self._kept(state, *kept.due(state["pending"], self.delay, features, feedback.target.T))

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries beside the same images, which need no copy for each."""
        features = self.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self._logits(features, state["exemplars"], state["labels"])

    def memoryless_features(self) -> Features:
        return features_of(self, "encode")

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes at steps whose class was seen; in streams, the "unknown" loss at all."""
        logits = logits.float()
        unknown = -nearest(logits) if self.meets_new else None
        return loss_among_seen(logits, batch, unknown, self.unknown_weight)

    def _kept(self, state: State, shown: Tensor, labels: Tensor, pending: Tensor) -> State:
        """The state with more features [B, N, D] and their labels [B, N], and what is then pending."""
        return {
            "exemplars": torch.cat([state["exemplars"], shown], 1),
            "labels": torch.cat([state["labels"], labels], 1),
            "pending": pending,
        }

    def _logits(self, features: Tensor, exemplars: Tensor, labels: Tensor, revealed: Tensor | None = None) -> Tensor:
        """Logits [B, N, ways] of features [B, N, D] from exemplars [B, M, D] with labels [B, M].

        `revealed` [N, M] says which of them are known to which; None: all to all.
        """
        if not exemplars.shape[1]:
            return features.new_full((*features.shape[:2], self.task.ways), UNSEEN)
        alike = self._alike(features, exemplars)
        own = (labels.unsqueeze(-1) == torch.arange(self.task.ways, device=labels.device)).unsqueeze(1)
        if revealed is not None:
            own = own & revealed[..., None]
        factor = self.scale if self.similarity == "cosine" else 1.0
        near = (factor * alike.unsqueeze(-1)).masked_fill(~own, UNSEEN).logsumexp(-2)
        seen = own.any(-2).expand_as(near)
        near = near - near.masked_fill(~seen, UNSEEN).logsumexp(-1, keepdim=True)
        if not self.meets_new:
            return among_seen(near, seen)
        unknown = (self.beta - alike.masked_fill(~own.any(-1), UNSEEN).amax(-1)) / self.gamma
        return among_seen(near, seen, unknown.masked_fill(~seen.any(-1), 0.0))

    def _alike(self, features: Tensor, exemplars: Tensor) -> Tensor:
        """Similarities [B, N, M]."""
        if self.similarity == "cosine":
            return F.normalize(features, dim=-1) @ F.normalize(exemplars, dim=-1).transpose(1, 2)
        squares = features.square().sum(-1).unsqueeze(-1) + exemplars.square().sum(-1).unsqueeze(1)
        return 2 * features @ exemplars.transpose(1, 2) - squares
