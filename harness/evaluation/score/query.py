"""Scores of queries: N-way K-shot and continual learning."""

from __future__ import annotations

import numpy as np

from harness.episodes.plan import STREAM, EpisodePlan
from harness.evaluation.score.arrays import Each, Scores, percent, sums
from harness.protocol.models import Continual, Protocol


def score(earned: np.ndarray, plan: EpisodePlan) -> Scores:
    """`by_query` is the credit of each query, [B, Q]; with a stream, `by_subtask[i, s]` is the mean credit of the
    queries of the s-th class that the stream of episode i showed."""
    first = plan.first_query
    by_query, target = earned.T[:, first:], plan.target[:, first:]
    if plan.phase[0] != STREAM:
        return {"by_query": by_query}
    # The stream shows the classes one after another, equally often: its order, inverted, is the subtask of each.
    ways = plan.classes.shape[1]
    place = np.argsort(plan.target[:, : first : first // ways], axis=1)
    right, count = sums(by_query, np.take_along_axis(place, target, axis=1), ways)
    return {"by_query": by_query, "by_subtask": right / count}


def each(scores: Scores, protocol: Protocol) -> Each:
    """`query_accuracy` is the mean over all queries."""
    return {"query_accuracy": scores["by_query"].mean(1)}


def each_of_continual(scores: Scores, protocol: Continual) -> Each:
    """And `query_accuracy@last` is that of the newest subtask, `query_accuracy@earlier` the mean over all others."""
    found = each(scores, protocol)
    if protocol.episode.subtasks > 1:
        found["query_accuracy@earlier"] = scores["by_subtask"][:, :-1].mean(1)
        found["query_accuracy@last"] = scores["by_subtask"][:, -1]
    return found


def curves(scores: Scores) -> dict[str, list[float]]:
    """Accuracy by subtask, in the order of the stream; none without a stream."""
    return {"by_subtask": percent(scores["by_subtask"].mean(0))} if "by_subtask" in scores else {}
