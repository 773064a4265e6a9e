"""Scores of episodes: what each answer earned, summed within episodes, then metrics with intervals over episodes.

Each kind of protocol has one scorer, in a module with functions `score`, `each` and `curves`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from harness.evaluation.score import masks, query, single, stream
from harness.evaluation.score.arrays import Each, Metrics, Scores, first, joined, mean

if TYPE_CHECKING:
    from harness.episodes.plan import EpisodePlan
    from harness.protocol.models import AnyProtocol

__all__ = [
    "SCORERS",
    "Each",
    "Metrics",
    "Scorer",
    "Scores",
    "curves",
    "each",
    "first",
    "joined",
    "mean",
    "metrics",
    "score",
]

P = TypeVar("P", bound="AnyProtocol")


@dataclass(frozen=True)
class Scorer(Generic[P]):
    """How a kind is scored: the scores of what was earned under a plan, metrics in each episode, curves for reports."""

    score: Callable[[np.ndarray, EpisodePlan], Scores]
    each: Callable[[Scores, P], Each]
    curves: Callable[[Scores], dict[str, list[float]]]


_STREAM = Scorer(stream.score, stream.each, stream.curves)

SCORERS: dict[str, Scorer[Any]] = {
    "online_few_shot": _STREAM,
    "delayed_label": _STREAM,
    "continual": Scorer(query.score, query.each_of_continual, query.curves),
    "segmentation_distractors": Scorer(masks.score, masks.each, masks.curves),
    "n_way_k_shot": Scorer(query.score, query.each, query.curves),
    "supervised": Scorer(single.score, single.each, single.curves),
}
"""Kind to what scores it."""


def score(protocol: AnyProtocol, earned: np.ndarray, plan: EpisodePlan) -> Scores:
    """Scores of B episodes from what their answers earned, [T, B] (NaN where nothing is answered)."""
    return SCORERS[protocol.kind].score(earned, plan)


def each(protocol: AnyProtocol, scores: Scores) -> Each:
    """Metric name to its value in each episode [E], as a share; NaN where the episode has no step it speaks of."""
    return SCORERS[protocol.kind].each(scores, protocol)


def metrics(protocol: AnyProtocol, scores: Scores) -> Metrics:
    """Metric name to (mean, half-width of the 95 % interval over episodes, episodes), in per cent.

    An episode without a step that a metric is about is left out of it, and so is a metric that no episode has.
    """
    found = {name: mean(values) for name, values in each(protocol, scores).items()}
    return {name: value for name, value in found.items() if value[2]}


def curves(protocol: AnyProtocol, scores: Scores) -> dict[str, list[float]]:
    """Means in per cent along an axis of the kind, for reports."""
    return SCORERS[protocol.kind].curves(scores)
