"""The answers themselves: their form, with and without feedback, and under other class numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.check.compare import first_change
from harness.check.report import Finding
from harness.check.subject import Subject, scoring
from harness.check.tasks import BATCH, relabelled, revealing
from harness.check.walk import moments
from harness.plan import NULL
from harness.rollout import feedback_of


def answers(subject: Subject) -> Finding:
    """Logits are finite floats [B, ways] at every step, and [T, B, ways] from a rollout."""
    method, episodes = subject.fresh(), subject.episodes
    with scoring(method):
        for moment in moments(method, episodes.x, feedback_of(episodes).target, method.start(BATCH)):
            bad = _bad(moment.logits, (BATCH, subject.setting.ways))
            if bad:
                return Finding("failed", f"predict at step {moment.step}: {bad}", moment.step)
    if subject.has_rollout:
        bad = _bad(subject.rolled(episodes), (subject.setting.steps, BATCH, subject.setting.ways))
        if bad:
            return Finding("failed", f"rollout: {bad}")
    return Finding()


def null_feedback(subject: Subject) -> Finding:
    """Nothing revealed at all, and nothing revealed at every other step of every other episode: finite answers."""
    silent = revealing(subject.episodes, np.full(subject.setting.steps, NULL))
    for said, run in subject.paths():
        finite = run(silent).isfinite().flatten(2).all(2)
        if not finite.all():
            step, episode = (int(i) for i in (~finite).nonzero()[0])
            return _not_finite(f"{said}answer at step {step} of episode {episode}", "no label was ever revealed", step)
    told = feedback_of(subject.episodes).target
    time, episodes = torch.meshgrid(*map(torch.arange, told.shape), indexing="ij")
    sparse = torch.where((time + episodes) % 2 == 0, NULL, told)
    method = subject.fresh()
    with scoring(method):
        for moment in moments(method, subject.episodes.x, sparse, method.start(BATCH)):
            finite = moment.logits.isfinite().all(1)
            if not finite.all():
                where = f"answer at step {moment.step} of episode {int((~finite).nonzero()[0])}"
                return _not_finite(where, "every other label stayed null", moment.step)
    return Finding()


def relabelling(subject: Subject) -> Finding:
    """Reports whether other class numbers give the same answers under those numbers; nothing is required."""
    renamed = relabelled(subject.episodes)
    plain = subject.stepped(subject.episodes, double=subject.double).roll(1, -1)
    change = first_change(plain, subject.stepped(renamed, double=subject.double), subject.agreement)
    if change is None:
        return Finding("note", "equivariant: with other class numbers it gives the same answers under those numbers")
    return Finding(
        "note",
        f"not equivariant: with other class numbers the {change.where} differs by {change.size:.3g}",
        change.step,
        change.episode,
        change.size,
    )


def _bad(logits: object, shape: tuple[int, ...]) -> str | None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        return f"the answer is {getattr(logits, 'dtype', type(logits).__name__)}, not a tensor of floats"
    if tuple(logits.shape) != shape:
        return f"the answer has shape {list(logits.shape)} instead of {list(shape)}"
    if not logits.isfinite().all():
        return "the answer has values that are not finite (a large negative number rules a class out)"
    return None


def _not_finite(where: str, when: str, step: int) -> Finding:
    return Finding("failed", f"{where} is not finite when {when}", step)
