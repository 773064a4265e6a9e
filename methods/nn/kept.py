"""For learners that keep every labelled image: which images labels are of, and answers by attention over them."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.nn.novelty import UNSEEN, among_seen


def due(pending: Tensor, delay: int, shown: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What of a stream is now labelled [B, N, ...], its labels [B, N], and what then awaits a label [B, m, ...].

    `pending` [B, m, ...] are the things (images or features) of the newest m <= delay steps, whose labels are still to
    come. Before each of the following steps one of `labels` [B, S] is revealed, then one of `shown` [B, S, ...] seen;
    or there is one label and nothing is shown. A label that comes before `delay` things were shown is of none of them.
    """
    line = torch.cat([pending, shown], 1)
    early = min(labels.shape[1], delay - pending.shape[1])
    number = labels.shape[1] - early
    return line[:, :number], labels[:, early:], line[:, number:]


def revealed_by_step(steps: int, delay: int, device: torch.device) -> Tensor:
    """Which of the things shown are labelled by which step of a whole stream, bool [S, max(0, S - d)]."""
    now = torch.arange(steps, device=device)
    return now[: max(0, steps - delay)] + delay <= now.unsqueeze(-1)


def attention(scores: Tensor, known: Tensor) -> Tensor:
    """Softmax over the last dimension among what is `known` (bool, alike or to be broadcast); zeros if nothing is."""
    return scores.masked_fill(~known, UNSEEN).softmax(-1) * known


def by_class(scores: Tensor, labels: Tensor, ways: int, known: Tensor | None = None) -> Tensor:
    """Logits [B, N, ways]: the logarithm of the attention that the images of each class get.

    `scores` [B, N, M] are those of N images beside M others with `labels` [B, M], of which null (-1) has no say;
    `known` [N, M] says which of these are known to which; None: all to all. `UNSEEN` for classes without a label.
    """
    own = (labels.unsqueeze(-1) == torch.arange(ways, device=labels.device)).unsqueeze(1)
    if known is not None:
        own = own & known.unsqueeze(-1)
    if not scores.shape[2]:
        return scores.new_full((*scores.shape[:2], ways), UNSEEN)
    near = scores.unsqueeze(-1).masked_fill(~own, UNSEEN).logsumexp(-2)
    seen = own.any(-2).expand_as(near)
    return among_seen(near - near.masked_fill(~seen, UNSEEN).logsumexp(-1, keepdim=True), seen)
