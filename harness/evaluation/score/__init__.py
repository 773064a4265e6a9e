"""Scores of episodes: what each answer earned, summed within episodes, then metrics with intervals over episodes.

Each kind of protocol has one scorer: a module with `score`, `each` and `curves`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.evaluation.score import masks, query, single, stream
from harness.evaluation.score.arrays import Each, Metrics, Scores, first, joined, mean

if TYPE_CHECKING:
    from harness.episodes.plan import EpisodePlan
    from harness.protocol.models import AnyProtocol

__all__ = ["Each", "Metrics", "Scores", "curves", "each", "first", "joined", "mean", "metrics", "score"]

_SCORERS = {
    "online_few_shot": stream,
    "delayed_label": stream,
    "continual": query,
    "segmentation_distractors": masks,
    "n_way_k_shot": query,
    "supervised": single,
}


def score(protocol: AnyProtocol, earned: np.ndarray, plan: EpisodePlan) -> Scores:
    """Scores of B episodes from what their answers earned, [T, B] (NaN where nothing is answered)."""
    return _SCORERS[protocol.kind].score(earned, plan)


def each(protocol: AnyProtocol, scores: Scores) -> Each:
    """Metric name to its value in each episode [E], as a share; NaN where the episode has no step it speaks of."""
    return _SCORERS[protocol.kind].each(scores, protocol)


def metrics(protocol: AnyProtocol, scores: Scores) -> Metrics:
    """Metric name to (mean, half-width of the 95 % interval over episodes, episodes), in per cent.

    An episode without a step that a metric speaks of has no say in it; a metric that no episode has is left out.
    """
    found = {name: mean(values) for name, values in each(protocol, scores).items()}
    return {name: value for name, value in found.items() if value[2]}


def curves(protocol: AnyProtocol, scores: Scores) -> dict[str, list[float]]:
    """Means in per cent along an axis of the kind, for reports."""
    return _SCORERS[protocol.kind].curves(scores)
