"""Scores of supervised learning: one answer an episode."""

from __future__ import annotations

import numpy as np

from harness.episodes.plan import EpisodePlan
from harness.evaluation.score.arrays import Each, Scores
from harness.protocol.models import Supervised


def score(earned: np.ndarray, plan: EpisodePlan) -> Scores:
    """`right` is the credit of each image, [B, 1]."""
    return {"right": earned.T.copy()}


def each(scores: Scores, protocol: Supervised) -> Each:
    """`accuracy` is the mean over images."""
    return {"accuracy": scores["right"][:, 0]}


def curves(scores: Scores) -> dict[str, list[float]]:
    """None: an episode is one image."""
    return {}
