"""What one answer earns: credit for a class, overlap or masking for a mask."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def credit(logits: Tensor, target: Tensor) -> np.ndarray:
    """Credit of each answer, float64 [T, B]: 1/m if the target is among the m largest logits, else 0.

    Ties share the credit, which is what guessing among them would earn on average. logits [T, B, ways],
    target [T, B]. An answer with a logit that is not a number earns 0.
    """
    best = logits == logits.amax(-1, keepdim=True)
    right = best.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return (right.double() / best.sum(-1).clamp(min=1)).cpu().numpy()


def overlap(logits: Tensor, target: Tensor, objects: Tensor) -> np.ndarray:
    """What each mask earns, float64 [T, B]; logits, target and objects are [T, B, 1, H, W].

    Where the target class is shown (its target is not empty): foreground intersection over union. Where the
    distractor is shown: the share of its object's pixels that are predicted background. A pixel is predicted
    foreground if its logit is above 0; one whose logit is not a number is wrong either way.
    """
    inside, background = objects > 0.5, logits <= 0
    foreground = logits > 0
    wanted = (target > 0.5).flatten(2).any(-1)
    hit = (foreground & inside).flatten(2).sum(-1).double()
    united = (~background | inside).flatten(2).sum(-1).clamp(min=1)
    hidden = (background & inside).flatten(2).sum(-1).double()
    area = inside.flatten(2).sum(-1).clamp(min=1)
    return (hit / united).where(wanted, hidden / area).cpu().numpy()
