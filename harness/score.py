"""Scores of answers: credit step by step, then by shot, with intervals over episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from harness.plan import EpisodePlan
from harness.spec import StreamProtocol


def credit(logits: Tensor, target: Tensor) -> np.ndarray:
    """Credit of each answer, float64 [T, B]: 1/m if the target is among the m largest logits, else 0.

    Ties share the credit, which is what guessing among them would earn on average. logits [T, B, ways],
    target [T, B]. An answer with a logit that is not a number earns 0.
    """
    best = logits == logits.amax(-1, keepdim=True)
    right = best.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return (right.double() / best.sum(-1).clamp(min=1)).cpu().numpy()


@dataclass(frozen=True)
class StreamScores:
    """Per-episode sums by shot and by revealed labels, so that episodes can be compared in pairs later.

    Each array is float64 [episodes, n]: `right[i, k]` is the credit earned in episode i at k-shot steps and
    `count[i, k]` the number of them; likewise by the number of revealed labels of the class shown.
    `by_step` is the credit of each step, [episodes, T].
    """

    right: np.ndarray
    count: np.ndarray
    revealed_right: np.ndarray
    revealed_count: np.ndarray
    by_step: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """What is kept in the run folder."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def first(self, episodes: int) -> StreamScores:
        """The scores of the first `episodes` episodes."""
        return StreamScores(**{name: values[:episodes] for name, values in self.arrays().items()})


def score_stream(earned: np.ndarray, plan: EpisodePlan) -> StreamScores:
    """Scores of B episodes from the credit [T, B] of their answers."""
    by_step = earned.T
    depth = plan.steps
    return StreamScores(
        *_by(by_step, plan.shot, depth),
        *_by(by_step, plan.revealed, depth),
        by_step,
    )


def joined(parts: list[StreamScores]) -> StreamScores:
    """Scores of several batches of episodes, in order."""
    arrays = [part.arrays() for part in parts]
    return StreamScores(**{name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]})


def stream_metrics(scores: StreamScores, protocol: StreamProtocol) -> dict[str, tuple[float, float, int]]:
    """Metric name to (mean, half-width of the 95 % interval over episodes, episodes), in per cent.

    `accuracy@shot=k` is the mean credit at the (k+1)-th presentation of a class; `accuracy` is the mean over the
    protocol's scored shots; `accuracy@nonfirst` leaves out first presentations only; `accuracy@revealed=k` is by
    labels of the class already revealed. An episode without such a step (possible in drawn order) has no say.
    """
    with np.errstate(invalid="ignore"):
        by_shot = scores.right / scores.count
        by_revealed = scores.revealed_right / scores.revealed_count
        nonfirst = scores.right[:, 1:].sum(1) / scores.count[:, 1:].sum(1)
    shots = protocol.scoring.shots
    metrics = {f"accuracy@shot={k}": _mean(by_shot[:, k]) for k in shots}
    metrics["accuracy"] = _mean(np.nanmean(by_shot[:, shots], axis=1))
    metrics["accuracy@nonfirst"] = _mean(nonfirst)
    if protocol.label_delay > 1:
        for k in shots:
            metrics[f"accuracy@revealed={k}"] = _mean(by_revealed[:, k])
    return {name: value for name, value in metrics.items() if value[2]}


def stream_curves(scores: StreamScores) -> dict[str, list[float]]:
    """Mean accuracy in per cent by step and by shot (0-shot included), for reports."""
    right, count = scores.right.sum(0), scores.count.sum(0)
    seen = count > 0
    return {
        "by_step": [round(float(value), 4) for value in 100 * scores.by_step.mean(0)],
        "by_shot": [round(float(value), 4) for value in 100 * right[seen] / count[seen]],
    }


def _by(by_step: np.ndarray, group: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums [B, depth] of credit [B, T] and of steps, by the group number [B, T] of each step."""
    episodes = len(by_step)
    where = (np.arange(episodes)[:, None] * depth + group).ravel()
    right = np.bincount(where, by_step.ravel(), episodes * depth).reshape(episodes, depth)
    count = np.bincount(where, minlength=episodes * depth).reshape(episodes, depth).astype(np.float64)
    return right, count


def _mean(values: np.ndarray) -> tuple[float, float, int]:
    values = 100 * values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan"), 0
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean()), float(1.96 * spread / np.sqrt(len(values))), len(values)
