"""Answers among the classes seen so far in an episode, and telling that a sample is of none of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.training.interface import Batch

UNSEEN = -1e6
"""Logit of a class of which no label has been revealed."""


def among_seen(near: Tensor, seen: Tensor, unknown: Tensor | None = None) -> Tensor:
    """Logits [..., ways]: `near` [..., ways] for the classes that were `seen` (bool, alike), `UNSEEN` for the others.

    With `unknown` [...], the logit of being of none of them, the logits seen are moved alike until the largest is
    minus that. Answers are the same, and what `loss_among_seen` needs can be read off them by `nearest`.
    """
    if unknown is not None:
        near = near - near.masked_fill(~seen, UNSEEN).amax(-1, keepdim=True) - unknown.unsqueeze(-1)
    return near.masked_fill(~seen, UNSEEN)


def nearest(logits: Tensor) -> Tensor:
    """The largest logit [...] of a class seen; half of `UNSEEN` where none was."""
    return logits.amax(-1).clamp(min=UNSEEN / 2)


def loss_among_seen(logits: Tensor, batch: Batch, unknown: Tensor | None = None, weight: float = 1.0) -> Tensor:
    """Cross-entropy among seen classes at steps whose class was seen, summed over scored steps, averaged over episodes.

    logits [A, B, ways] are those of `among_seen` at the steps of `batch.answer_target`. With `unknown` logits [A, B],
    plus `weight` times the binary cross-entropy of telling first presentations by them (Ren et al., "Wandering within a
    world", ICLR 2021), at all steps but those before any class was seen, where nothing is near.
    """
    target, scored = batch.answer_target, batch.answer_scored
    right = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    seen = right > UNSEEN / 2
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(right)
    total = (each * (seen & scored)).sum()
    if unknown is not None:
        some = logits.amax(-1) > UNSEEN / 2
        detection = F.binary_cross_entropy_with_logits(unknown, (~seen).to(unknown.dtype), reduction="none")
        total = total + weight * torch.where(some & scored, detection, 0.0).sum()
    return total / target.shape[1]
