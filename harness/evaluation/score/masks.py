"""Scores of masks: overlap where the target class is shown, masking where the distractor is."""

from __future__ import annotations

import numpy as np

from harness.episodes.plan import EpisodePlan
from harness.evaluation.score.arrays import Each, Scores, percent
from harness.protocol.models import SegmentationDistractors


def score(earned: np.ndarray, plan: EpisodePlan) -> Scores:
    """`iou[i, k]` is the foreground IoU at the (k+1)-th presentation of the target class in episode i, `masking[i, k]`
    the share of the distractor's object predicted background at the (k+1)-th presentation of the distractor (no
    columns without one)."""
    presentations = plan.steps // plan.classes.shape[1]
    scores = {"iou": _by_shot(earned.T, plan, 0, presentations), "masking": np.empty((len(plan.episode), 0))}
    if plan.classes.shape[1] > 1:
        scores["masking"] = _by_shot(earned.T, plan, 1, presentations)
    return scores


def each(scores: Scores, protocol: SegmentationDistractors) -> Each:
    """`iou` and `masking` are means over the protocol's scored shots; `joint` is the mean of the two, since an answer
    that marks everything wins the first and loses the second."""
    shots = protocol.scoring.shots
    found = {f"iou@shot={k}": scores["iou"][:, k] for k in shots}
    iou = scores["iou"][:, shots].mean(1)
    found["iou"] = iou
    if protocol.episode.distractor:
        masking = scores["masking"][:, shots].mean(1)
        found |= {f"masking@shot={k}": scores["masking"][:, k] for k in shots}
        found |= {f"joint@shot={k}": (scores["iou"][:, k] + scores["masking"][:, k]) / 2 for k in shots}
        found |= {"masking": masking, "joint": (iou + masking) / 2}
    return found


def curves(scores: Scores) -> dict[str, list[float]]:
    """IoU and masking by shot, 0-shot included."""
    found = {"iou_by_shot": percent(scores["iou"].mean(0))}
    if scores["masking"].shape[1]:
        found["masking_by_shot"] = percent(scores["masking"].mean(0))
    return found


def _by_shot(earned: np.ndarray, plan: EpisodePlan, role: int, presentations: int) -> np.ndarray:
    """What was earned [B, T] at the presentations of one class, in their order: [B, presentations]."""
    return earned[plan.target == role].reshape(len(earned), presentations)
