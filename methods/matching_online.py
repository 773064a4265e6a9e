"""Online matching network: every revealed image is stored, and attention over all of them answers.

Vinyals et al., "Matching networks for one shot learning", NeurIPS 2016, without full context embeddings; its online
form by Ren et al., "Wandering within a world: online contextualized few-shot learning", ICLR 2021.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import State, Task
from harness.method.option_types import Count, NotNegative, Positive
from harness.training.interface import Batch
from methods.nn.attention import class_logits
from methods.nn.backbones import Conv4
from methods.nn.memory_bank import MemoryBank
from methods.nn.novelty import UNSEEN, MeanOver, among_seen, loss_among_seen, nearest


class MatchingOnline(MemoryBank):
    """The probability of a class is the attention that its revealed images get.

    With features h of the image and e_i of the images revealed so far, with labels y_i:

        p_k = sum of softmax_i(7.5 cos(h, e_i)) over the i with y_i = k;   logit_k = log p_k  for classes seen.

    The "unknown" logit u = (beta - max_i cos(h, e_i)) / gamma, with beta learned from 0 and gamma from 1, is trained to
    tell first presentations, as in `OPN`, and never answers. Logits are moved alike until the largest is -u; where
    queries follow, which is after every class was seen, there is no u and they are not moved.

    It needs the label delay d, and keeps the features of all images: its state grows with t. On support
    pairs it is a matching network. An image whose label is null is never attended to.

    Options
    -------
    channels : width of the conv net (`Conv4`).
    similarity : 'cosine' or 'euclidean' (softmax over -|h - e_i|^2, without the factor; the source knows both).
    scale, learned_scale : the factor 7.5 of the cosines, and whether it is trained.
    unknown_weight : weight of the "unknown" loss; 1 in the source.
    mean_over : what the loss is a mean over, as in `CPM`: 'episodes', or 'steps' as in the source.
    """

    feature_net = "encode"

    def __init__(
        self,
        task: Task,
        channels: Count = 64,
        similarity: Literal["cosine", "euclidean"] = "cosine",
        scale: Positive = 7.5,
        learned_scale: bool = False,
        unknown_weight: NotNegative = 1.0,
        mean_over: MeanOver = "episodes",
    ) -> None:
        super().__init__(task)
        self.mean_over: MeanOver = mean_over
        self.similarity, self.unknown_weight = similarity, unknown_weight
        self.encode = Conv4(task.image_shape[0], channels)
        self.dim = self.encode.features(task.image_shape)
        self.scale = nn.Parameter(torch.tensor(scale), learned_scale and similarity == "cosine")
        self.meets_new = task.kind in ("online_few_shot", "delayed_label")
        self.beta = nn.Parameter(torch.tensor(0.0), self.meets_new)
        self.gamma = nn.Parameter(torch.tensor(1.0), self.meets_new)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes at steps whose class was seen; in streams, the "unknown" loss at all."""
        logits = logits.float()
        unknown = -nearest(logits) if self.meets_new else None
        return loss_among_seen(logits, batch, unknown, self.unknown_weight, self.mean_over)

    def stream_samples(self, x: Tensor) -> Tensor:
        # Step after step, not episode after episode: sums over a batch keep the order of rounding of older weights.
        return self.features(x).transpose(0, 1)

    def answer(self, state: State, samples: Tensor, known: Tensor | None = None) -> Tensor:
        labels = state["labels"]
        alike = self._similarity(samples, state["features"])
        factor = self.scale if self.similarity == "cosine" else 1.0
        logits = class_logits(factor * alike, labels, self.task.ways, known)
        if not self.meets_new or not labels.shape[1]:
            return logits
        labelled = (labels >= 0).unsqueeze(1)
        labelled = labelled if known is None else labelled & known
        unknown = (self.beta - alike.masked_fill(~labelled, UNSEEN).amax(-1)) / self.gamma
        return among_seen(logits, logits > UNSEEN / 2, unknown.masked_fill(~labelled.any(-1), 0.0))

    def _similarity(self, features: Tensor, stored: Tensor) -> Tensor:
        """Similarities [B, N, M] of features [B, N, D] with those stored [B, M, D]."""
        if self.similarity == "cosine":
            return F.normalize(features, dim=-1) @ F.normalize(stored, dim=-1).mT
        squares = features.square().sum(-1).unsqueeze(-1) + stored.square().sum(-1).unsqueeze(1)
        return 2 * features @ stored.mT - squares
