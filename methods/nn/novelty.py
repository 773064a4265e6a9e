"""Answers among the classes seen so far in an episode, and telling that a sample is of none of them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.training.interface import Batch
from harness.training.whole_batch import of_whole_batch

UNSEEN = -1e6
"""Logit of a class of which no label has been revealed."""

MeanOver = Literal["episodes", "steps"]
"""What a loss is a mean over: episodes, of each of which it is the sum over steps, or the steps of all of them."""


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


def loss_among_seen(
    logits: Tensor,
    batch: Batch,
    unknown: Tensor | None = None,
    weight: float = 1.0,
    mean_over: MeanOver = "episodes",
) -> Tensor:
    """Cross-entropy among seen classes at steps whose class was seen, summed over scored steps, averaged over episodes.

    logits [A, B, ways] are those of `among_seen` at the steps of `batch.answer_target`. With `unknown` logits [A, B],
    plus `weight` times the binary cross-entropy of telling first presentations by them (Ren et al., "Wandering within a
    world", ICLR 2021), at all steps but those before any class was seen, where nothing is near.

    With `mean_over` 'steps' each of the two is the mean over the steps, of all episodes together, that it is taken at,
    as in the code of Ren et al.: gradients, and what clips or outweighs them, then have the scale that they have there.
    """
    target, scored = batch.answer_target, batch.answer_scored
    right = logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    seen = right > UNSEEN / 2
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(right)
    total = _summed(each, seen & scored, mean_over)
    if unknown is not None:
        some = logits.amax(-1) > UNSEEN / 2
        detection = F.binary_cross_entropy_with_logits(unknown, (~seen).to(unknown.dtype), reduction="none")
        total = total + weight * _summed(detection, some & scored, mean_over)
    return total if mean_over == "steps" else total / target.shape[1]


def _summed(each: Tensor, at: Tensor, mean_over: MeanOver) -> Tensor:
    """The sum of the entries of `each` [A, B] where `at` (bool, alike) says so, or their mean; 0 where none are."""
    total = torch.where(at, each, 0.0).sum()
    if mean_over == "episodes":
        return total
    # Of the whole batch: training weights what a process has of it by its share of the episodes.
    counts = of_whole_batch(at.sum(0))
    return total / (counts.sum().clamp(min=1) * (at.shape[1] / len(counts)))
