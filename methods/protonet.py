"""Prototypical network (Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Task
from harness.method.option_types import Count, Positive
from methods.nn.backbones import Backbone, Net
from methods.nn.class_means import ClassMeans
from methods.nn.novelty import among_seen


class ProtoNet(ClassMeans):
    """The mean of the features of each class; the nearest mean answers.

        p_k = mean of f(x_i) over the labelled images i of class k;
        logit_k = -tau |f(x) - p_k|^2   or   tau cos(f(x), p_k).

    In a stream the means run: they are of what has been revealed so far, and of constant size. It must be told the
    label delay d, and keeps the features of the last d samples in its state.

    `OPN` is the same learner made for streams. This one has nothing to tell new classes by, so that its loss in a
    stream is cross-entropy among the classes seen and nothing else, and it has features that methods can share.

    Snell et al. train with more ways than they test (60 for 5 and 20 on Omniglot, 30 and 20 for 5 on mini-ImageNet),
    which they find better. Here a stage has at most the protocol's ways: what a row is compared with was trained for as
    many classes as it is tested with, and the harness leaves stages with more of them out.

    Options
    -------
    backbone, channels, widths, resolution : the net (`Backbone`); the source's is conv4 with 64 channels.
    similarity : 'euclidean' (the source's) or 'cosine' (what it compares with).
    scale : where tau begins, which is then learned (Oreshkin, Rodriguez and Lacoste, NeurIPS 2018). None is the
        source's 1 with 'euclidean', never learned; with 'cosine', where 1 tells no classes apart, 10, learned.
        Features that were trained on classes lie far from each other, so that only a small tau makes their distances
        logits.
    """

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: Count = 64,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
        similarity: Literal["euclidean", "cosine"] = "euclidean",
        scale: Positive | None = None,
    ) -> None:
        super().__init__(task)
        if similarity not in ("euclidean", "cosine"):
            raise ValueError(f"similarity is 'euclidean' or 'cosine', not {similarity!r}")
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim = self.backbone.dim
        own = {"euclidean": 1.0, "cosine": 10.0}[similarity] if scale is None else scale
        self.scale = nn.Parameter(torch.tensor(own), similarity == "cosine" or scale is not None)
        self.similarity = similarity

    def logits(self, features: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        features, means = features.unsqueeze(-2), means.unsqueeze(-3)
        if self.similarity == "cosine":
            near = F.cosine_similarity(features, means, dim=-1)
        else:
            near = -(features - means).square().sum(-1)
        return among_seen(self.scale * near, (counts > 0).unsqueeze(-2))
