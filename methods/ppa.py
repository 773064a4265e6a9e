"""PPA: classifier weights predicted from activations (Qiao, Liu, Shen and Yuille, CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Task
from harness.method.option_types import Count, Positive
from methods.nn.backbones import Backbone, Net
from methods.nn.class_means import ClassMeans
from methods.nn.novelty import among_seen


class PPA(ClassMeans):
    """A learned map from the mean activation of a class to its row of the classifier.

    With activations a(x) of a net that tells the training classes apart, and s_k the mean of those of class k:

        w_k = phi(s_k),  phi(s) = N(V relu(U N(s)))  with  N(v) = v / |v|;   logit_k = tau w_k . N(a(x)).

    U and V begin as the identity, so that before phi is trained the nearest mean by angle answers; tau is learned. The
    source trains phi on softmax over all its training classes at once; here it is trained on episodes of training
    classes, over as many of them as the protocol has ways. (The source also trains on the validation classes and
    averages over ten crops; nothing here does.)

    It needs the label delay d, and keeps the features of the last d samples in its state.

    Options
    -------
    backbone, channels, widths, resolution : the net (`Backbone`).
    scale : where tau begins; the source has no such factor and unnormalised activations in place of N(a(x)).
    """

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: Count = 64,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
        scale: Positive = 10.0,
    ) -> None:
        super().__init__(task)
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim = self.backbone.dim
        self.scale = nn.Parameter(torch.tensor(scale))
        self.first, self.second = nn.Linear(self.dim, self.dim), nn.Linear(self.dim, self.dim)
        for each in (self.first, self.second):
            nn.init.eye_(each.weight)
            nn.init.zeros_(each.bias)

    def predicted(self, means: Tensor) -> Tensor:
        """phi: rows of the classifier [..., D] from mean activations [..., D]."""
        hidden = self.first(F.normalize(means, dim=-1)).relu()
        return F.normalize(self.second(hidden), dim=-1)

    def logits(self, features: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        weights = self.predicted(means).unsqueeze(-3)
        near = (weights @ F.normalize(features, dim=-1).unsqueeze(-1)).squeeze(-1)
        return among_seen(self.scale * near, (counts > 0).unsqueeze(-2))
