"""Matching network (Vinyals et al., "Matching networks for one shot learning", NeurIPS 2016)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import State, Task
from harness.method.option_types import Count, Positive
from harness.training.interface import Batch
from methods.nn.attention import class_logits
from methods.nn.backbones import Backbone, Net
from methods.nn.context import FullContext
from methods.nn.memory_bank import MemoryBank
from methods.nn.novelty import loss_among_seen


class MatchingNet(MemoryBank):
    """The probability of a class is the attention that its labelled images get.

        p_k = sum of softmax_i(tau cos(f(x), g(x_i))) over the labelled images i of class k;   logit_k = log p_k.

    With `context: none`, f and g are one net f'. With `context: full` (full context embeddings, `FullContext`) g(x_i)
    is f'(x_i) plus what an LSTM in each direction makes of all labelled images in order of arrival, and f(x) is what
    an LSTM makes of f'(x) and of some reads of them.

    In a stream the labelled images are those whose labels have been revealed by now. Full context is read causally:
    at each step both LSTMs go over these images and no others, so that g of an image changes when later labels arrive,
    and a step costs as much as there are images. Features of all images are stored, and the state grows with t. It
    needs the label delay d. An image whose label is null is never attended to nor part of a context.

    `MatchingOnline` is the plain one with a loss for telling new classes, which this one has not.

    Options
    -------
    backbone, channels, widths, resolution : the net f' (`Backbone`); the source's is conv4 with 64 channels.
    context : 'none' or 'full'. The LSTMs have as many units as there are features.
    reads : reads of the labelled images by f, with full context.
    scale, learned_scale : tau and whether it is trained. The source has none (1 and false), under which the attention
        is almost flat; 10 and learned is the repair of Gidaris and Komodakis (CVPR 2018).
    """

    def __init__(
        self,
        task: Task,
        backbone: Net = "conv4",
        channels: Count = 64,
        widths: list[Count] | None = None,
        resolution: Count | None = None,
        context: Literal["none", "full"] = "none",
        reads: Count = 3,
        scale: Positive = 10.0,
        learned_scale: bool = True,
    ) -> None:
        super().__init__(task)
        if context not in ("none", "full"):
            raise ValueError(f"context is 'none' or 'full', not {context!r}")
        self.backbone = Backbone(task.image_shape, backbone, channels, widths, resolution)
        self.dim = self.backbone.dim
        self.scale = nn.Parameter(torch.tensor(scale), learned_scale)
        self.context = FullContext(self.dim, reads) if context == "full" else None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy among seen classes, at scored steps whose class was seen."""
        return loss_among_seen(logits.float(), batch)

    def answer(self, state: State, samples: Tensor, known: Tensor | None = None) -> Tensor:
        stored, labels = state["features"], state["labels"]
        if self.context is None or not stored.shape[1]:
            near = F.normalize(samples, dim=-1) @ F.normalize(stored, dim=-1).mT
        else:
            labelled = (labels >= 0).unsqueeze(1)
            labelled = labelled if known is None else labelled & known
            support = self.context.support(stored, labelled)
            queries = self.context.query(samples, support, labelled)
            near = torch.einsum("bnd,bnmd->bnm", F.normalize(queries, dim=-1), F.normalize(support, dim=-1))
        return class_logits(self.scale * near, labels, self.task.ways, known)
