"""Learners that see labels but no images, played against a protocol's episodes: what they earn is not learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.lint.finding import ERROR, NOTE, WARNING, Finding
from harness.protocol.models import AnyProtocol, DelayedLabel, OnlineFewShot
from harness.util.progress import tracked

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.episodes.source import Episodes
    from harness.method.interface import Method

EPISODES = 400
MASKED_EPISODES = 60
BLIND = ("majority", "copy_last", "count")
"""Methods that look at labels alone."""

BLIND_MASKS = ("all_foreground", "all_background", "copy_last_mask", "mean_mask")
"""Methods that look at masks alone."""

SOLVED = 0.9
TOO_MUCH = 0.25
"""Shares of the way from guessing to perfect, beyond which a blind learner spoils the protocol, or makes one wonder."""


def learner_findings(protocol: AnyProtocol, table: ClassTable, dataset: Dataset | None) -> Iterator[Finding]:
    """What learners earn that see no image; on masks they are played only where the data set is at hand.

    Streams are also tried with "the label of p steps ago" for every p, which finds periods of the class order.
    """
    if protocol.supervised:
        return
    if protocol.masks:
        if dataset is not None:
            yield from _on_masks(protocol, dataset)
        return
    plan = plan_episodes(protocol, table, "test", 0, range(EPISODES))
    ways = plan.classes.shape[1]
    if ways == 1:
        yield Finding(ERROR, "learners", f"{protocol.needs.classes_key}: with one class every answer is right")
        return
    earned = {name: _earned(name, protocol, plan) for name in tracked(BLIND, "playing label-only learners", "learners")}
    if isinstance(protocol, OnlineFewShot | DelayedLabel):
        back = _best_period(plan, protocol.label_delay)
        if back is not None and back != protocol.label_delay:
            earned[f"the label of {back} steps ago"] = _accuracy(protocol, plan, _ago(plan, back))
    guessing = 1 / ways
    for name, accuracy in sorted(earned.items(), key=lambda pair: -pair[1]):
        share = (accuracy - guessing) / (1 - guessing)
        if share <= 0.01:
            continue
        severity = ERROR if share >= SOLVED else WARNING if share >= TOO_MUCH else NOTE
        told = f"'{name}', which sees labels but no image, earns {100 * accuracy:.1f} % of {protocol.ranking}"
        yield Finding(
            severity, "learners", f"{told} (guessing: {100 * guessing:.1f} %){_hint(name, protocol, severity)}"
        )


def label_only_metrics(protocol: AnyProtocol, table: ClassTable, episodes: int) -> dict[str, tuple[float, float, int]]:
    """What methods that see labels but no images earn in the ranking metric, on the first test episodes: name to (mean,
    half-width of the 95 % interval, episodes), per cent, best first. Empty where there are no such methods: without
    labels within an episode, and where answers are masks.
    """
    if protocol.supervised or protocol.masks:
        return {}
    from harness.evaluation.score import metrics, score

    plan = plan_episodes(protocol, table, "test", 0, range(episodes))
    found = {}
    for name in tracked(BLIND, "playing label-only baselines", "baselines"):
        found[name] = metrics(protocol, score(protocol, _credit(name, protocol, plan), plan))[protocol.ranking]
    return dict(sorted(found.items(), key=lambda pair: -pair[1][0]))


def _hint(name: str, protocol: AnyProtocol, severity: str) -> str:
    if severity == NOTE:
        return ""
    if isinstance(protocol, OnlineFewShot | DelayedLabel) and (name == "copy_last" or name.startswith("the label of")):
        return f": the order of classes ({protocol.episode.order}) repeats itself in step with the revealed labels"
    return ": the order of classes gives the answers away"


def _earned(name: str, protocol: AnyProtocol, plan: EpisodePlan) -> float:
    """The ranking metric, as a share, of a registered method on episodes with empty images."""
    return _metric(protocol, plan, _credit(name, protocol, plan))


def _credit(name: str, protocol: AnyProtocol, plan: EpisodePlan) -> np.ndarray:
    """Credit [T, B] of a registered method on episodes with empty images."""
    from harness.evaluation.rollout import score_batch
    from harness.method.registry import build_method, load_method, task_for

    cls = load_method(name).cls
    method = build_method(cls, task_for(cls, protocol, (1, 1, 1)), {}, 0).eval()
    return score_batch(method, _unseen(plan))


def _metric(protocol: AnyProtocol, plan: EpisodePlan, earned: np.ndarray) -> float:
    from harness.evaluation.score import metrics, score

    return metrics(protocol, score(protocol, earned, plan))[protocol.ranking][0] / 100


def _unseen(plan: EpisodePlan) -> Episodes:
    import torch

    from harness.episodes.source import Episodes

    target = torch.from_numpy(np.ascontiguousarray(plan.target.T))
    return Episodes(torch.zeros(*target.shape, 1, 1, 1), target, torch.from_numpy(plan.scored)[:, None], plan)


def _ago(plan: EpisodePlan, back: int) -> np.ndarray:
    """Credit [T, B] of answering with the label of `back` steps ago; before that, of guessing."""
    target = plan.target.T
    credit = np.full(target.shape, 1 / plan.classes.shape[1])
    credit[back:] = target[back:] == target[:-back]
    return credit


def _accuracy(protocol: AnyProtocol, plan: EpisodePlan, credit: np.ndarray) -> float:
    return _metric(protocol, plan, credit)


def _best_period(plan: EpisodePlan, delay: int) -> int | None:
    """The p >= d for which the label of p steps ago, which is known, is right most often; None in short episodes."""
    periods = range(delay, plan.steps // 2 + 1)
    return max(periods, key=lambda back: _ago(plan, back)[back:].mean(), default=None)


def _on_masks(protocol: AnyProtocol, dataset: Dataset) -> Iterator[Finding]:
    from harness.episodes.source import EpisodeSource
    from harness.evaluation.evaluate import evaluate
    from harness.evaluation.score import metrics
    from harness.method.registry import build_method, load_method, task_for

    source = EpisodeSource(dataset)
    for name in BLIND_MASKS:
        cls = load_method(name).cls
        method: Method = build_method(cls, task_for(cls, protocol, dataset.card.image_shape), {}, 0)
        scores = evaluate(method, source, protocol, "test", MASKED_EPISODES)
        value = metrics(protocol, scores)[protocol.ranking][0]
        severity = WARNING if value >= 100 * SOLVED else NOTE
        yield Finding(severity, "learners", f"'{name}', which sees no image, earns {value:.1f} % of {protocol.ranking}")
