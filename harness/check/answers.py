"""The answers themselves: their form, with and without feedback, and under other class numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.check.compare import Change, first_change
from harness.check.conditions import scoring
from harness.check.report import Finding
from harness.check.settings import Setting
from harness.check.subject import Subject
from harness.check.tasks import BATCH, relabelled, revealing
from harness.check.walk import adapted, life_of, moments, walked
from harness.episodes.plan import NULL
from harness.evaluation.answers import misshapen
from harness.method.interface import Method


def answers(subject: Subject) -> Finding:
    """Finite floats of the right shape (`answers.misshapen`): at every step, of all queries, and from a rollout."""
    if not _fine(subject):
        found = _by_hand(subject)
        if found:
            return found
        subject.stepped()  # raises again what is not found by hand
    if subject.fast:
        answered_steps = slice(subject.setting.first_query if subject.setting.queries else 0, None)
        bad = _bad(subject.fresh(), subject.rolled()[answered_steps], subject.episodes.x[answered_steps])
        if bad:
            return Finding("failed", f"{subject.fast}: {bad}")
    return Finding()


def _fine(subject: Subject) -> bool:
    """Whether stepping raises nothing and gives finite answers of the right shape."""
    try:
        return bool(subject.stepped()[subject.answer_mask(subject.stepped)].isfinite().all())
    except (Exception, SystemExit):  # it is raised again where it can be said at which step
        return False


def _by_hand(subject: Subject) -> Finding | None:
    """The first bad answer, with its step."""
    setting, method, life = subject.setting, subject.fresh(), life_of(subject.episodes)
    with scoring(method):
        state = method.start(BATCH)
        for moment in moments(method, life, state):
            state = moment.after
            bad = None if setting.pairs else _bad(method, moment.logits, life.x[moment.step])
            if bad:
                return Finding("failed", f"predict at step {moment.step}: {bad}", moment.step)
        if setting.queries:
            queries = life.queries.transpose(0, 1)
            bad = _bad(method, method.query(adapted(method, life, state), queries.clone()), queries)
            if bad:
                return Finding("failed", f"query: {bad}")
    return None


def null_feedback(subject: Subject) -> Finding:
    """Nothing revealed to the first episode, and nothing at every other step of the others: finite answers."""
    setting, never = subject.setting, "no label was ever revealed"
    life = life_of(subject.episodes)
    time, rows = torch.meshgrid(*map(torch.arange, life.feedback.shape[:2]), indexing="ij")
    missing = (((time + rows) % 2 == 0) | (rows == 0)).view(*time.shape, *(1,) * (life.feedback.dim() - 2))
    due = None if life.due is None else torch.where(missing[0], NULL, life.due)
    sparse = replace(life, feedback=torch.where(missing, NULL, life.feedback), due=due)
    logits, _ = walked(subject.fresh(), sparse)
    finite = logits.isfinite().flatten(2).all(2)
    if not finite.all():
        step, episode = (int(i) for i in (~finite).nonzero()[0])
        return _not_finite(
            "", setting, Change(step, episode, 0.0), "every other label stayed null" if episode else never
        )
    if subject.fast:
        # Of the steps that it answers: the others hold NaN.
        answered = np.flatnonzero(subject.answer_mask(subject.rolled))
        silent = revealing(subject.episodes, np.full(setting.steps, NULL))
        finite = subject.rolled(silent)[answered].isfinite().flatten(2).all(2)
        if not finite.all():
            at, episode = (int(i) for i in (~finite).nonzero()[0])
            return _not_finite(f"in {subject.fast}, ", setting, Change(int(answered[at]), episode, 0.0), never)
    return Finding()


def relabelling(subject: Subject) -> Finding:
    """Reports whether other class numbers give the same answers under those numbers; nothing is required."""
    renamed = relabelled(subject.episodes)
    plain = subject.stepped(double=subject.double).roll(1, -1)
    change = first_change(plain, subject.stepped(renamed, double=subject.double), subject.agreement)
    if change is None:
        return Finding("note", "equivariant: with other class numbers it gives the same answers under those numbers")
    return Finding(
        "note",
        f"not equivariant: with other class numbers the {subject.setting.answer(change)} differs by {change.size:.3g}",
        change.step,
        change.episode,
        change.size,
    )


def _bad(method: Method, logits: object, x: Tensor) -> str | None:
    problem = misshapen(method.task, logits, x)
    if problem is None and isinstance(logits, Tensor) and not logits.isfinite().all():
        return "the answer has values that are not finite (a large negative number rules a class out)"
    return problem


def _not_finite(said: str, setting: Setting, at: Change, when: str) -> Finding:
    return Finding("failed", f"{said}{setting.answer(at)} is not finite when {when}", at.step)
