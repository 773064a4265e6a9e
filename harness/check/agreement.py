"""Stepping and rollout are two ways to compute the same thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from harness.check.compare import first_change, same
from harness.check.report import Finding
from harness.check.subject import Subject, poisoned, scoring
from harness.check.tasks import uniform
from harness.episodes import Episodes
from harness.method import Feedback, Method
from harness.rollout import feedback_of, step_through, training_logits


def stepping_equals_rollout(subject: Subject) -> Finding:
    """In evaluation mode, both give the same answers and the same gradient of every parameter.

    Compared in float64 where the method runs in it, within a share of 1e-9, else in float32 within 1e-4
    (`compare.AGREEMENT`). The gradient is that of a fixed random weighting of all logits, which any difference
    in any of them shows in; it is compared to the size of the parameter's own gradient.
    """
    if not subject.has_rollout:
        return Finding("skipped", "the method has no rollout: training steps it")
    stepped = subject.stepped(subject.episodes, double=subject.double)
    rolled = subject.rolled(subject.episodes, double=subject.double)
    if rolled.shape != stepped.shape:
        return Finding("failed", f"rollout gives {list(rolled.shape)}, stepping {list(stepped.shape)}")
    change = first_change(stepped, rolled, subject.agreement)
    if change is not None:
        return Finding(
            "failed",
            f"{change.where} differs by {change.size:.3g} between stepping and rollout "
            f"({_named(subject.precision)}, tolerance {subject.agreement:g} of its size)",
            change.step,
            change.episode,
            change.size,
        )
    return _untouched(subject) or _gradients(subject) or Finding()


def _untouched(subject: Subject) -> Finding | None:
    """A finding if `rollout` edits what it is given."""
    method = subject.fresh()
    x, told = subject.episodes.x.clone(), feedback_of(subject.episodes).target
    feedback = Feedback(told.clone())
    with scoring(method):
        method.rollout(x, feedback)
    if not same(x, subject.episodes.x):
        return Finding("failed", "rollout edits its inputs in place")
    if not same(feedback.target, told):
        return Finding("failed", "rollout edits its feedback in place")
    return None


def _gradients(subject: Subject) -> Finding | None:
    names = [name for name, each in subject.fresh().named_parameters() if each.requires_grad]
    if not names:
        return None
    stepping = _gradient(subject, lambda method, episodes: step_through(method, episodes)[0])
    rollout = _gradient(subject, training_logits)
    if stepping is None and rollout is None:
        return None
    if stepping is None or rollout is None:
        which = "stepping" if stepping is None else "rollout"
        return Finding("failed", f"the answers of {which} carry no gradient, those of the other path do")
    largest = max(float(each.abs().max()) for each in stepping)
    worst: tuple[float, str] | None = None
    for name, a, b in zip(names, stepping, rollout, strict=True):
        size = float((a - b).abs().max().nan_to_num(nan=torch.inf))
        # Where the true gradient is zero both are rounding, so the largest gradient of all sets a floor.
        own = float(a.abs().max() + b.abs().max()) + largest
        if not size <= subject.agreement * own and (worst is None or size > worst[0]):
            worst = size, f"of at most {float(a.abs().max()):.3g} by stepping in parameter '{name}'"
    if worst is None:
        return None
    return Finding(
        "failed",
        f"the gradient through rollout differs by {worst[0]:.3g} {worst[1]} "
        f"({_named(subject.precision)}, tolerance {subject.agreement:g} of its size)",
        size_of_change=worst[0],
    )


def _gradient(subject: Subject, path: Callable[[Method, Episodes], Tensor]) -> list[Tensor] | None:
    """The gradient of each parameter that learns (zeros where unused), or None where the answers carry none."""
    method = subject.fresh(double=subject.double)
    learning = [each for each in method.parameters() if each.requires_grad]
    x = subject.episodes.x
    episodes = replace(subject.episodes, x=x.double() if subject.double else x.clone())
    with poisoned(), torch.enable_grad():
        logits = path(method, episodes)
        if not logits.requires_grad:
            return None
        weight = uniform(tuple(logits.shape), "weight of each logit").to(logits)
        found = torch.autograd.grad((logits * weight).sum(), learning, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(learning, found, strict=True)]


def _named(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")
