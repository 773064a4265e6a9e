"""Matching network (Vinyals et al., "Matching networks for one shot learning", NeurIPS 2016)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Feedback, Method, State, Task
from harness.training.interface import Batch, Features, Trainable, features_of
from methods.nn import kept
from methods.nn.backbones import Backbone, Net
from methods.nn.context import FullContext
from methods.nn.novelty import loss_among_seen


class MatchingNet(Trainable, Method):
    """The chance of a class is the attention that its labelled images get.

        p_k = sum of softmax_i(tau cos(f(x), g(x_i))) over the labelled images i of class k;   logit_k = log p_k.

    With `context: none`, f and g are one net f'. With `context: full` (full context embeddings, `FullContext`) g(x_i)
    is f'(x_i) plus what an LSTM in each direction makes of all labelled images in order of arrival, and f(x) is what
    an LSTM makes of f'(x) and of some reads of them.

    In a stream the labelled images are those whose labels have been revealed by now. Full context is read causally:
    at each step both LSTMs go over these images and no others, so that g of an image changes when later labels arrive,
    and a step costs as much as there are images. Features of all images are kept, and the state grows with t. It must
    be told the label delay d. An image whose label is null is never attended to nor part of a context.

    `MatchingOnline` is the plain one with a loss for telling new classes, which this one has not.

    Options
    -------
    backbone, channels, widths, resolution : the net f' (`Backbone`); the source's is conv4 with 64 channels.
    context : 'none' or 'full'. The LSTMs have as many units as there are features.
    reads : reads of the labelled images by f, with full context.
    scale, learned_scale : tau and whether it is trained. The source has none (1 and false), under which the attention
        is almost flat; 10 and learned is the repair of Gidaris and Komodakis (CVPR 2018).
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
        context: Literal["none", "full"] = "none",
        reads: int = 3,
        scale: float = 10.0,
        learned_scale: bool = True,
    ) -> None:
        super().__init__(task)
        if context not in ("none", "full"):
            raise ValueError(f"context is 'none' or 'full', not {context!r}")
        if reads < 1:
            raise ValueError(f"reads must be at least 1, found {reads}")
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim = self.backbone.dim
        self.scale = nn.Parameter(torch.tensor(scale), learned_scale)
        self.context = FullContext(self.dim, reads) if context == "full" else None
        self.delay = task.label_delay or 0

    def memoryless_features(self) -> Features:
        return features_of(self, "backbone", shared=True)

    def start(self, episodes: int) -> State:
        """No images yet: features [B, n, D] and labels [B, n] of those revealed, and features [B, m, D] pending."""
        none = self.scale.new_zeros(episodes, 0, self.dim)
        labels = torch.zeros(episodes, 0, dtype=torch.int64, device=none.device)
        return {"features": none, "labels": labels, "pending": none.clone()}

    def observe(self, state: State, feedback: Feedback) -> State:
        """Keeps the label with the pair's features, or with the oldest pending ones once d images are pending."""
        pending, labels = state["pending"], feedback.target.unsqueeze(1)
        if feedback.x is not None:
            return self._kept(state, self.backbone(feedback.x).unsqueeze(1), labels, pending)
        return self._kept(state, *kept.due(pending, self.delay, pending[:, :0], labels))

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        features = self.backbone(x).unsqueeze(1)
        logits = self._logits(features, state["features"], state["labels"])
        return logits.squeeze(1), {**state, "pending": torch.cat([state["pending"], features], 1)}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor:
        """All images through the net at once, and beside all others that were revealed before them."""
        features = self._features(x.transpose(0, 1))
        known = kept.revealed_by_step(len(x), self.delay, x.device)
        shown, labels, _ = kept.due(features[:, :0], self.delay, features, feedback.target.T)
        return self._logits(features, shown, labels, known).transpose(0, 1)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State:
        features, labels = self._features(x.transpose(0, 1)), feedback.target.T
        if feedback.x is not None:
            return self._kept(state, features, labels, state["pending"])
        return self._kept(state, *kept.due(state["pending"], self.delay, features, labels))

    def query(self, state: State, x: Tensor) -> Tensor:
        """All queries beside the same images, which need no copy for each."""
        return self._logits(self._features(x), state["features"], state["labels"])

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes, at scored steps whose class was seen."""
        return loss_among_seen(logits.float(), batch)

    def _features(self, x: Tensor) -> Tensor:
        return self.backbone(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _kept(self, state: State, shown: Tensor, labels: Tensor, pending: Tensor) -> State:
        """The state with more features [B, N, D] and their labels [B, N], and what is then pending."""
        return {
            "features": torch.cat([state["features"], shown], 1),
            "labels": torch.cat([state["labels"], labels], 1),
            "pending": pending,
        }

    def _logits(self, features: Tensor, shown: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """Logits [B, N, ways] of features [B, N, D] beside those shown [B, M, D], with labels [B, M].

        `known` [N, M] says which of them are known to which; None: all to all.
        """
        if self.context is None or not shown.shape[1]:
            near = F.normalize(features, dim=-1) @ F.normalize(shown, dim=-1).mT
        else:
            having = (labels >= 0).unsqueeze(1)
            having = having if known is None else having & known
            support = self.context.support(shown, having)
            asked = self.context.asked(features, support, having)
            near = torch.einsum("bnd,bnmd->bnm", F.normalize(asked, dim=-1), F.normalize(support, dim=-1))
        return kept.by_class(self.scale * near, labels, self.task.ways, known)
