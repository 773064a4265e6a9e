"""Episodes that look like those of scoring: as many at once, of images with as few values, after many calls.

The other checks run on a handful of random episodes, which a method can tell from real ones by their number, by that of
its calls, or by the look of the images. What it does there says nothing of what it does when it is scored.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.check.compare import first_change
from harness.check.report import Finding
from harness.check.settings import Timing
from harness.check.subject import Subject
from harness.check.tasks import assemble, changed, draw, numbers
from harness.episodes.source import Episodes

CALLS = 8
"""Batches that an instance has answered before it is looked at."""

_MOST, _LEAST = 64, 17  # episodes of a batch; no other check has more than 16
_IMAGES = 96  # that a batch has at most, where that leaves enough episodes: it bounds the time
_STEPS = 2  # of a stream


def as_scored(subject: Subject) -> Finding:
    """Changes the last labels of a batch, which are revealed to nobody: no answer moves.

    A method that looks for targets where it believes that it is being scored answers otherwise. One that keeps to what
    it is handed is handed the same, so that every bit is the same.
    """
    before, after = _answers(subject, "as scored"), _answers(subject, "as scored", other_labels=True)
    change = first_change(before, after)
    if change is None:
        return Finding()
    return Finding(
        "failed",
        f"in a batch of {before.shape[1]} episodes, after {CALLS} others, the answer at step {change.step} of episode "
        f"{change.episode} changed by {change.size:.3g} with labels that it was not handed: the method finds them "
        "elsewhere, and not in the small tasks of the other checks",
        change.step,
        change.episode,
        change.size,
    )


def _answers(subject: Subject, name: str, other_labels: bool = False) -> Tensor:
    """Of a fresh instance. The batch is made here, so that there is never more than one to be found in memory."""
    method = subject.fresh()
    for call in range(CALLS):
        subject.stepped(_cut(draw(subject.setting, f"{name}, call {call}", batch=1), 1), method)
    setting = subject.setting
    length = setting.first_query + setting.ways if setting.queries else _STEPS
    episodes = _cut(_quantised(draw(setting, name, batch=max(_LEAST, min(_MOST, _IMAGES // length)))), length)
    if other_labels:
        steps, first = episodes.plan.steps, episodes.plan.first_query
        now = torch.arange(steps)[:, None]
        episodes = changed(episodes, episodes, inputs=now < 0, labels=now >= min(first, steps - 1))
    return subject.stepped(episodes, method)


def _quantised(episodes: Episodes) -> Episodes:
    """The episodes with 256 values a pixel, as decoded images have."""
    return replace(episodes, x=((episodes.x.clamp(-1.5, 1.5) + 1.5) * 85).round() / 85 - 1.5)


def _cut(episodes: Episodes, steps: int) -> Episodes:
    """The first steps of episodes, as episodes of their own; no fewer than lead up to the queries and one of those."""
    plan = episodes.plan
    steps = min(max(steps, plan.first_query + 1) if plan.first_query < plan.steps else steps, plan.steps)
    timing = Timing(plan.feedback_step[:steps], plan.phase[:steps])
    objects = None if episodes.objects is None else episodes.objects[:steps]
    return assemble(episodes.x[:steps], numbers(episodes)[:steps], plan.classes.shape[1], timing, objects)
