"""Episodes that look like those of scoring: as many at once, of images of the data or of a stand-in, after many calls.

The other checks run on a handful of random episodes, which a method can tell from real ones by their number, by that of
its calls, or by the look of the images. What it does there says nothing of what it does when it is scored.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.check.compare import first_change
from harness.check.copies import copier
from harness.check.pictures import generated, pictured
from harness.check.report import Finding
from harness.check.settings import Setting, Timing
from harness.check.subject import Subject
from harness.check.tasks import assemble, changed, draw, numbers
from harness.episodes.source import Episodes
from harness.evaluation.evaluate import BATCH
from harness.method.interface import Method

CALLS = 8
"""Batches that an instance has answered before it is looked at."""

_MANY = 17  # episodes of a batch; no other check has more than 16
_STEPS = 2  # of a stream


def as_scored(subject: Subject) -> Finding:
    """Changes the last labels of a batch, which are revealed to nobody: no answer moves.

    A method that looks for targets where it believes that it is being scored answers otherwise. One that keeps to what
    it is handed is handed the same, so that every bit is the same.
    """
    experienced = _experienced(subject)
    for batch, length in _sizes(subject.setting):
        before, after = (_answers(subject, experienced(), batch, length, other_labels=other) for other in (False, True))
        change = first_change(before, after)
        if change is not None:
            return Finding(
                "failed",
                f"in a batch of {batch} episodes, after {CALLS} others, the answer at step {change.step} of episode "
                f"{change.episode} changed by {change.size:.3g} with labels that it was not handed: the method finds "
                "them elsewhere, and not in the small tasks of the other checks",
                change.step,
                change.episode,
                change.size,
            )
    return Finding()


def _sizes(setting: Setting) -> list[tuple[int, int]]:
    """Episodes of a batch and their steps: as few steps as there can be, which bounds the time.

    Without queries one step is enough, and a batch as large as the largest of scoring.
    """
    if setting.queries:
        return [(_MANY, setting.first_query + setting.ways)]
    return [(_MANY, _STEPS), (BATCH, 1)]


def _experienced(subject: Subject) -> Callable[[], Method]:
    """Makes instances that have answered `CALLS` batches."""
    method = _after_calls(subject)
    try:
        copy = copier(method)
        copy()
    except Exception:  # it made what cannot be copied when it was used: a computed tensor, a lock, a generator
        return lambda: _after_calls(subject)
    return copy


def _after_calls(subject: Subject) -> Method:
    method = subject.fresh()
    for call in range(CALLS):
        subject.stepped(_cut(_drawn(subject, f"as scored, call {call}", 1), 1), method)
    return method


def _answers(subject: Subject, method: Method, batch: int, length: int, other_labels: bool) -> Tensor:
    """The batch is made here, so that there is never more than one to be found in memory."""
    episodes = _cut(_drawn(subject, f"as scored, {batch} episodes", batch), length)
    if other_labels:
        steps, first = episodes.plan.steps, episodes.plan.first_query
        now = torch.arange(steps)[:, None]
        episodes = changed(episodes, episodes, inputs=now < 0, labels=now >= min(first, steps - 1))
    return subject.stepped(episodes, method)


def _drawn(subject: Subject, name: str, batch: int) -> Episodes:
    setting = subject.setting
    pictures = subject.pictures or generated(setting.image_shape, setting.masks)
    return pictured(draw(setting, name, batch=batch), pictures, name)


def _cut(episodes: Episodes, steps: int) -> Episodes:
    """The first steps of episodes, as episodes of their own; no fewer than lead up to the queries and one of those."""
    plan = episodes.plan
    steps = min(max(steps, plan.first_query + 1) if plan.first_query < plan.steps else steps, plan.steps)
    timing = Timing(plan.feedback_step[:steps], plan.phase[:steps])
    objects = None if episodes.objects is None else episodes.objects[:steps]
    return assemble(episodes.x[:steps], numbers(episodes)[:steps], plan.classes.shape[1], timing, objects)
