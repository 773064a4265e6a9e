"""Attention over labelled samples: weights, and logits of classes from them."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.nn.novelty import UNSEEN, among_seen


def masked_softmax(scores: Tensor, known: Tensor) -> Tensor:
    """Softmax over the last dimension of what is `known` (bool, of that shape or broadcast); zeros if nothing is."""
    return scores.masked_fill(~known, UNSEEN).softmax(-1) * known


def class_logits(scores: Tensor, labels: Tensor, ways: int, known: Tensor | None = None) -> Tensor:
    """Logits [B, N, ways]: the logarithm of the attention that the samples of each class get.

    `scores` [B, N, M] are those of N images with M samples of `labels` [B, M], of which null (-1) is masked out;
    `known` [N, M] says which samples are known to which image; None: all to all. `UNSEEN` for classes without a label.
    """
    own = (labels.unsqueeze(-1) == torch.arange(ways, device=labels.device)).unsqueeze(1)
    if known is not None:
        own = own & known.unsqueeze(-1)
    if not scores.shape[2]:
        return scores.new_full((*scores.shape[:2], ways), UNSEEN)
    near = scores.unsqueeze(-1).masked_fill(~own, UNSEEN).logsumexp(-2)
    seen = own.any(-2).expand_as(near)
    return among_seen(near - near.masked_fill(~seen, UNSEEN).logsumexp(-1, keepdim=True), seen)
