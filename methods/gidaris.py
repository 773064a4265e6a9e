"""Dynamic few-shot learning without forgetting (Gidaris and Komodakis, CVPR 2018)."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Task
from harness.method.option_types import Count, Positive
from harness.training.interface import Batch, Features, features_of
from harness.util.seeding import seeded
from methods.nn.backbones import Backbone, Net
from methods.nn.class_means import ClassMeans
from methods.nn.novelty import UNSEEN, among_seen


class CosineHead(nn.Module):
    """Logits tau cos(f, w_c) of C classes from features [N, D]; tau is learned."""

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, width) * math.sqrt(2 / width))
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * F.normalize(features, dim=-1) @ F.normalize(self.weight, dim=-1).T


class Gidaris(ClassMeans):
    """A generator of classifier weights for new classes, over a cosine classifier of the training classes.

    First features f and weights w_b of the training classes are trained with logits tau cos(f, w_b). Then the features
    are frozen, and a generator is trained on episodes of training classes that pass for new. With z_i = N(f_i),
    N(v) = v / |v|, the labelled images i of class k, and a key k_b for each training class b:

        w'_k = phi_avg * mean_i z_i  +  phi_att * mean_i sum_b softmax_b(gamma cos(Q z_i, k_b)) N(w_b)
        logit_k = tau cos(f, w'_k) - log sum exp(tau cos(f, w'_j), tau cos(f, w_b))  over new j and training classes b:

    a log-probability among all classes, of which the training classes are never an answer. The training classes that
    pass for new in an episode are no b in it: else attention would look up the answer. As in the source, phi_avg and
    phi_att begin at 1, Q as the identity with noise, keys from N(0, 2 / D), and tau and gamma, learned, at 10. Unlike
    there, there are no queries of training classes in the second stage (no protocol here has them), hence the w_b
    stay as the first stage leaves them.

    Its means are of constant size in a stream. It needs the label delay d, and keeps the features of the last d
    samples in its state.

    Options
    -------
    backbone, channels, widths, resolution : the net (`Backbone`); conv4 has no last ReLU. The source's is conv4 with
        widths 64-64-128-128.
    attention : whether the generator has its second term.
    scale, attention_scale : where tau and gamma begin.
    """

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: Count = 64,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
        attention: bool = True,
        scale: Positive = 10.0,
        attention_scale: Positive = 10.0,
    ) -> None:
        super().__init__(task)
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution, final_relu=False)
        self.dim, self.attention, classes = self.backbone.dim, attention, task.classes or task.ways
        self.base = seeded(lambda: CosineHead(self.dim, classes, scale), "cosine head", torch.initial_seed())
        self.average = nn.Parameter(torch.ones(self.dim))
        if attention:
            self.attended = nn.Parameter(torch.ones(self.dim))
            self.ask = nn.Linear(self.dim, self.dim)
            with torch.no_grad():
                self.ask.weight.copy_(torch.eye(self.dim) + 0.001 * torch.randn(self.dim, self.dim))
                self.ask.bias.zero_()
            self.keys = nn.Parameter(torch.randn(classes, self.dim) * math.sqrt(2 / self.dim))
            self.sharpness = nn.Parameter(torch.tensor(attention_scale))
        self._excluded: Tensor | None = None

    @property
    def mean_dim(self) -> int:
        """2 D: of z and of what it attends to; D without attention."""
        return self.dim * (1 + self.attention)

    def memoryless_features(self) -> Features:
        return features_of(self, "backbone", shared=True, class_head=self.base)

    def without_classes(self, class_rows: Tensor) -> Gidaris:
        """A view of this method that shares all its parameters, for episodes of training classes that pass for new."""
        view = copy.copy(self)
        view._excluded = class_rows
        return view

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Minus the log-probability of the right class among new and training classes, where it was seen."""
        target, scored = batch.answer_target, batch.answer_scored
        right = logits.float().gather(-1, target.unsqueeze(-1)).squeeze(-1)
        return -(right * (scored & (right > UNSEEN / 2))).sum() / target.shape[1]

    def generated(self, means: Tensor) -> Tensor:
        """Weights [..., D] of classes from their means [..., 2 D] (or [..., D] without attention)."""
        if not self.attention:
            return self.average * means
        direct, attended = means.split(self.dim, -1)
        return self.average * direct + self.attended * attended

    def statistics(self, features: Tensor) -> Tensor:
        """z and what it attends to, [..., B, 2 D], for features [..., B, D] of labelled images."""
        z = F.normalize(features, dim=-1)
        if not self.attention:
            return z
        queries, keys = F.normalize(self.ask(z), dim=-1), F.normalize(self.keys, dim=-1)
        weights = self._without_own(self.sharpness * queries @ keys.T).softmax(-1)
        return torch.cat([z, weights @ self._base_weights()], -1)

    def logits(self, features: Tensor, means: Tensor, counts: Tensor) -> Tensor:
        z, scale = F.normalize(features, dim=-1), self.base.scale
        new = scale * z @ F.normalize(self.generated(means), dim=-1).mT
        new = among_seen(new, (counts > 0).unsqueeze(-2).expand_as(new))
        old = scale * z @ self._base_weights().T
        old = self._without_own(old.transpose(-2, -3)).transpose(-2, -3)
        every = torch.cat([new, old], -1).logsumexp(-1, keepdim=True)
        return torch.where(new > UNSEEN / 2, new - every, UNSEEN)

    def _base_weights(self) -> Tensor:
        """Normalised weights [C, D] of the training classes, which episodes do not train."""
        return F.normalize(self.base.weight.detach(), dim=-1)

    def _without_own(self, logits: Tensor) -> Tensor:
        """Logits [..., B, C] with those of the training classes that pass for new in episode B masked out."""
        if self._excluded is None:
            return logits
        own = torch.zeros_like(logits[(0,) * (logits.dim() - 2)], dtype=torch.bool)
        return logits.masked_fill(own.scatter(1, self._excluded, True), UNSEEN)
