"""OPN: online prototypical networks (Ren, Iuzzolino, Mozer and Zemel, "Wandering within a world", ICLR 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Task
from harness.method.option_types import Count, NotNegative
from harness.training.interface import Batch
from methods.nn.backbones import Conv4
from methods.nn.class_means import ClassMeans
from methods.nn.novelty import MeanOver, among_seen, loss_among_seen, nearest


class OPN(ClassMeans):
    """The running mean of the features of each class; the nearest mean answers.

    On the label y of a sample with features h: p_y <- (n_y p_y + h) / (n_y + 1), n_y <- n_y + 1. The logits of
    classes seen are -|h - p_k|^2, or tau cos(h, p_k) with tau learned from 10. An "unknown" logit
    u = (min_k d_k - beta) / gamma, with beta and gamma learned, is trained to tell first presentations; it adds
    its loss and never answers, since protocols here have no "unknown" class. Queries come after every class was
    seen, so that there it has nothing to learn and is left out.

    It needs the label delay d, and keeps the features of the last d samples in its state. On support pairs,
    which need no delay, it is a prototypical network (Snell, Swersky and Zemel, NeurIPS 2017).

    Options
    -------
    channels : width of the conv net (`Conv4`).
    similarity : 'euclidean' (the source's choice for Omniglot) or 'cosine' (its choice for natural images).
    unknown_weight : weight of the "unknown" loss; 1 in the source.
    mean_over : what the loss is a mean over, as in `CPM`: 'episodes', or 'steps' as in the source.
    """

    feature_net = "encode"

    def __init__(
        self,
        task: Task,
        channels: Count = 64,
        similarity: Literal["euclidean", "cosine"] = "euclidean",
        unknown_weight: NotNegative = 1.0,
        mean_over: MeanOver = "episodes",
    ) -> None:
        super().__init__(task)
        self.mean_over: MeanOver = mean_over
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

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes at steps whose class was seen; in streams, the "unknown" loss at all."""
        logits = logits.float()
        unknown = (-nearest(logits) - self.beta) / self.gamma if self.meets_new else None
        return loss_among_seen(logits, batch, unknown, self.unknown_weight, self.mean_over)

    def logits(self, features: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        features, prototypes = features.unsqueeze(-2), means.unsqueeze(-3)
        if self.similarity == "cosine":
            near = self.tau * F.cosine_similarity(features, prototypes, dim=-1)
        else:
            near = -(features - prototypes).square().sum(-1)
        return among_seen(near, (counts > 0).unsqueeze(-2))
