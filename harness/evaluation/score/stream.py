"""Scores of streams: accuracy by shot, and by revealed labels."""

from __future__ import annotations

import numpy as np

from harness.episodes.plan import EpisodePlan
from harness.evaluation.score.arrays import Each, Scores, percent, sums
from harness.protocol.models import StreamProtocol


def score(earned: np.ndarray, plan: EpisodePlan) -> Scores:
    """`right[i, k]` is the credit earned in episode i at k-shot steps and `count[i, k]` the number of them;
    `revealed_right` and `revealed_count` likewise by the number of revealed labels of the class shown; `by_step` is
    the credit of each step, [B, T]."""
    by_step = earned.T
    right, count = sums(by_step, plan.shot, plan.steps)
    revealed_right, revealed_count = sums(by_step, plan.revealed, plan.steps)
    return {
        "right": right,
        "count": count,
        "revealed_right": revealed_right,
        "revealed_count": revealed_count,
        "by_step": by_step,
    }


def each(scores: Scores, protocol: StreamProtocol) -> Each:
    """`accuracy@shot=k` is the mean credit at the (k+1)-th presentation of a class; `accuracy` is the mean over the
    protocol's scored shots, and in drawn order over all steps (there, how often a class was shown before says how
    often it is shown at all); `accuracy@nonfirst` leaves out first presentations only; `accuracy@revealed=k` is by
    labels of the class already revealed."""
    right, count = scores["right"], scores["count"]
    with np.errstate(invalid="ignore"):
        by_shot = right / count
        by_revealed = scores["revealed_right"] / scores["revealed_count"]
        nonfirst = right[:, 1:].sum(1) / count[:, 1:].sum(1)
    shots = protocol.scoring.shots
    found = {f"accuracy@shot={k}": by_shot[:, k] for k in shots}
    if protocol.episode.order == "iid":
        found["accuracy"] = scores["by_step"].mean(1)
    else:
        found["accuracy"] = by_shot[:, shots].mean(1)
    found["accuracy@nonfirst"] = nonfirst
    if protocol.label_delay > 1:
        found |= {f"accuracy@revealed={k}": by_revealed[:, k] for k in shots}
    return found


def curves(scores: Scores) -> dict[str, list[float]]:
    """Accuracy by step, and by shot (0-shot included): as in `each` the mean over episodes, where a class need not be
    shown as often in one as in another (drawn order) those that have such a step."""
    right, count = scores["right"], scores["count"]
    seen = count.any(0)
    right, count = right[:, seen], count[:, seen]
    if (count == count[0]).all():
        by_shot = right.sum(0) / count.sum(0)
    else:
        with np.errstate(invalid="ignore"):
            by_shot = np.nanmean(right / count, axis=0)
    return {"by_step": percent(scores["by_step"].mean(0)), "by_shot": percent(by_shot)}
