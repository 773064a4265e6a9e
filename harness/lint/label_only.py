"""Learners that see labels but no images, played against a protocol's episodes: what they earn is not learning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.plan import EpisodePlan
from harness.evaluation.summary import Summary, of_recorded
from harness.lint.finding import ERROR, NOTE, WARNING, Finding
from harness.lint.planned import planned
from harness.protocol.models import AnyProtocol, DelayedLabel, OnlineFewShot
from harness.util.progress import tracked

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.episodes.source import Episodes
    from harness.method.interface import Method

MASKED_EPISODES = 60
BLIND = ("majority", "copy_last", "count")
"""Methods that look at labels alone."""

BLIND_MASKS = ("all_foreground", "all_background", "copy_last_mask", "mean_mask")
"""Methods that look at masks alone."""

_CANDIDATES = 8  # candidates of a kind for the period of a class order

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
    plans = list(planned(protocol, table))
    ways = plans[0].classes.shape[1]
    if ways == 1:
        yield Finding(ERROR, "learners", f"{protocol.needs.classes_key}: with one class every answer is right")
        return
    earned = {
        name: _metric(protocol, plans, _credit(name, protocol))
        for name in tracked(BLIND, "playing label-only learners", "learners")
    }
    if isinstance(protocol, OnlineFewShot | DelayedLabel):
        # The best of many periods looks better than it is where it was chosen.
        chosen, others = ([plan.part(slice(first, None, 2)) for plan in plans] for first in (0, 1))
        others = [plan for plan in others if len(plan.episode)] or plans
        back = _best_period(chosen, protocol.label_delay)
        if back is not None and back != protocol.label_delay:
            mean, half, _ = _metrics(protocol, others, lambda plan: _ago(plan, back))
            if mean - half > 100 / ways:
                earned[f"the label of {back} steps ago"] = mean / 100
    guessing = 1 / ways
    for name, accuracy in sorted(earned.items(), key=lambda pair: -pair[1]):
        share = (accuracy - guessing) / (1 - guessing)
        if share <= 0.01:
            continue
        severity = ERROR if share >= SOLVED else WARNING if share >= TOO_MUCH else NOTE
        message = f"'{name}', which sees labels but no image, earns {100 * accuracy:.1f} % of {protocol.ranking}"
        yield Finding(
            severity, "learners", f"{message} (guessing: {100 * guessing:.1f} %){_hint(name, protocol, severity)}"
        )


def label_only_metrics(protocol: AnyProtocol, table: ClassTable, episodes: int) -> dict[str, Summary]:
    """What methods that see labels but no images earn in the ranking metric, on the first test episodes, best first, by
    name. Empty where there are no such methods: without
    labels within an episode, and where answers are masks.
    """
    if protocol.supervised or protocol.masks:
        return {}
    plans = list(planned(protocol, table, episodes))
    found = {
        name: _metrics(protocol, plans, _credit(name, protocol))
        for name in tracked(BLIND, "playing label-only baselines", "baselines")
    }
    shown = dict(zip(found, of_recorded([*found.values()]), strict=True))
    return dict(sorted(shown.items(), key=lambda pair: -pair[1].mean))


def _hint(name: str, protocol: AnyProtocol, severity: str) -> str:
    if severity == NOTE:
        return ""
    if isinstance(protocol, OnlineFewShot | DelayedLabel) and (name == "copy_last" or name.startswith("the label of")):
        return f": the order of classes ({protocol.episode.order}) repeats itself in step with the revealed labels"
    if name == "count":
        return ": every class comes equally often, so that counting labels gives answers away"
    return ": the order of classes gives the answers away"


Credit = Callable[[EpisodePlan], np.ndarray]
"""What is earned, [T, B], on the episodes of a plan."""


def _credit(name: str, protocol: AnyProtocol) -> Credit:
    """What a registered method earns on episodes with empty images."""
    from harness.evaluation.rollout import score_batch
    from harness.method.registry import build_method, load_method, task_for

    cls = load_method(name).cls
    method = build_method(cls, task_for(cls, protocol, (1, 1, 1)), {}, 0).eval()
    return lambda plan: score_batch(method, _unseen(plan))


def _metric(protocol: AnyProtocol, plans: Sequence[EpisodePlan], credit: Credit) -> float:
    """The ranking metric, as a share."""
    return _metrics(protocol, plans, credit)[0] / 100


def _metrics(protocol: AnyProtocol, plans: Sequence[EpisodePlan], credit: Credit) -> tuple[float, float, int]:
    """The ranking metric, as records hold it: mean and 1.96 standard errors, per cent, and episodes."""
    from harness.evaluation.score import joined, metrics, score

    scores = joined([score(protocol, credit(plan), plan) for plan in plans])
    return metrics(protocol, scores)[protocol.ranking]


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


def _best_period(plans: Sequence[EpisodePlan], delay: int) -> int | None:
    """The p >= d for which the label of p steps ago, which is known, is right most often; None in short episodes.

    Looked for among the commonest distances between a step and earlier ones of its class, and their multiples: time
    grows with the steps and not with their square.
    """
    steps = plans[0].steps
    counts = np.sum([_distances(plan) for plan in plans], axis=0)
    common = [each for each in np.argsort(-counts, kind="stable")[:_CANDIDATES].tolist() if each]
    known = np.argsort(-counts[delay:], kind="stable")[:_CANDIDATES] + delay
    periods = {*known.tolist(), *(-(-delay // each) * each for each in common)}
    possible = sorted(each for each in periods if delay <= each <= steps // 2)
    return max(possible, key=lambda back: np.mean([_ago(plan, back)[back:].mean() for plan in plans]), default=None)


def _distances(plan: EpisodePlan) -> np.ndarray:
    """How often a step lies so many steps [T] behind one of the last few of its class."""
    order = np.argsort(plan.target, axis=1, kind="stable")
    classes = np.take_along_axis(plan.target, order, axis=1)
    counts = np.zeros(plan.steps, np.int64)
    for back in range(1, min(_CANDIDATES, plan.steps - 1) + 1):
        same = classes[:, back:] == classes[:, :-back]
        counts += np.bincount((order[:, back:] - order[:, :-back])[same], minlength=plan.steps)
    return counts


def _on_masks(protocol: AnyProtocol, dataset: Dataset) -> Iterator[Finding]:
    from harness.episodes.source import EpisodeSource
    from harness.evaluation.evaluate import evaluate
    from harness.evaluation.score import metrics
    from harness.method.registry import build_method, load_method, task_for

    source = EpisodeSource(dataset)
    for name in BLIND_MASKS:
        cls = load_method(name).cls
        method: Method = build_method(cls, task_for(cls, protocol, dataset.card.image_shape), {}, 0)
        scores = evaluate(method, source, protocol, "test", min(MASKED_EPISODES, protocol.test_episodes or 1))
        value = metrics(protocol, scores)[protocol.ranking][0]
        severity = WARNING if value >= 100 * SOLVED else NOTE
        yield Finding(severity, "learners", f"'{name}', which sees no image, earns {value:.1f} % of {protocol.ranking}")
