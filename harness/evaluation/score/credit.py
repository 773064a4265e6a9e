"""What one answer earns: credit for a class, overlap or masking for a mask.

All of it is NumPy on plain arrays: nothing here calls a method of a tensor that another program has made.
"""

from __future__ import annotations

import numpy as np


def credit(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Credit of each answer, float64 [T, B]: 1/m if the target is among the m largest logits, else 0.

    Ties share the credit, which is what guessing among them would earn on average. logits [T, B, ways],
    target [T, B]. An answer with a logit that is not a number earns 0.
    """
    best = logits == logits.max(-1, keepdims=True)
    right = np.take_along_axis(best, target[..., None], -1)[..., 0]
    return right.astype(np.float64) / best.sum(-1).clip(min=1)


def overlap(logits: np.ndarray, target: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """What each mask earns, float64 [T, B]; logits, target and objects are [T, B, 1, H, W].

    Where the target class is shown (its target is not empty): foreground intersection over union. Where the
    distractor is shown: the share of its object's pixels that are predicted background. A pixel is predicted
    foreground if its logit is above 0; one whose logit is not a number is wrong either way.
    """
    logits, target, objects = (each.reshape(*each.shape[:2], -1) for each in (logits, target, objects))
    inside, background, foreground = objects > 0.5, logits <= 0, logits > 0
    hit, united = _count(foreground & inside), _count(~background | inside)
    hidden, area = _count(background & inside), _count(inside)
    wanted = (target > 0.5).any(-1)
    return np.where(wanted, hit / united.clip(min=1), hidden / area.clip(min=1))


def _count(marked: np.ndarray) -> np.ndarray:
    """How many of the pixels [T, B, pixels] are marked, [T, B]."""
    return np.count_nonzero(marked, axis=-1)
