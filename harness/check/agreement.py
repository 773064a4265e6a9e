"""Stepping and the fast paths for training, rollout and absorb, are two ways to compute the same thing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from harness.check.compare import first_change
from harness.check.conditions import poisoned
from harness.check.report import Finding
from harness.check.subject import Subject
from harness.check.tasks import uniform
from harness.episodes.source import Episodes
from harness.evaluation.rollout import step_through, training_logits
from harness.method.interface import Method


def stepping_equals_rollout(subject: Subject) -> Finding:
    """In evaluation mode, both give the same answers and the same gradient of every parameter.

    Compared in float64 where the method runs in it, within a share of 1e-9, else in float32 within 1e-4
    (`compare.AGREEMENT`). The gradient is that of a fixed random weighting of all logits, which any difference
    in any of them shows in; it is compared to the size of the parameter's own gradient.
    """
    if subject.fast is None:
        return Finding("skipped", "the method has no rollout: training steps it")
    return _agreement(subject, subject.fast)


def stepping_equals_absorb(subject: Subject) -> Finding:
    """The same of `absorb`: from its state and from that of stepping, queries get the same answers and gradients."""
    if subject.fast is None:
        return Finding("skipped", "the method has no absorb: training steps it")
    return _agreement(subject, subject.fast)


def _agreement(subject: Subject, fast: str) -> Finding:
    stepped = subject.stepped(double=subject.double)
    rolled = subject.rolled(double=subject.double)
    if rolled.shape != stepped.shape:
        return Finding("failed", f"{fast} gives {list(rolled.shape)}, stepping {list(stepped.shape)}")
    first = _compared_from(subject)
    change = first_change(stepped[first:], rolled[first:], subject.agreement)
    if change is not None:
        return subject.failure(
            replace(change, step=first + change.step),
            f"between stepping and {fast} ({_named(subject.precision)}, tolerance {subject.agreement:g} of its size)",
            verb="differs",
        )
    if subject.edited_by_fast:
        return Finding("failed", f"{fast} edits its {subject.edited_by_fast} in place")
    return _gradients(subject, fast) or Finding()


def _compared_from(subject: Subject) -> int:
    """The first step whose answer both paths give."""
    return subject.setting.first_query if subject.setting.queries else 0


def _gradients(subject: Subject, fast: str) -> Finding | None:
    names = [name for name, each in subject.fresh().named_parameters() if each.requires_grad]
    if not names:
        return None
    first = _compared_from(subject)
    stepping = _gradient(subject, lambda method, episodes: _last(step_through(method, episodes)[0], episodes, first))
    rollout = _gradient(subject, training_logits)
    if stepping is None and rollout is None:
        return None
    if stepping is None or rollout is None:
        which = "stepping" if stepping is None else fast
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
        f"the gradient through {fast} differs by {worst[0]:.3g} {worst[1]} "
        f"({_named(subject.precision)}, tolerance {subject.agreement:g} of its size)",
        size_of_change=worst[0],
    )


def _last(logits: Tensor, episodes: Episodes, first: int) -> Tensor:
    """The answers from step `first` on, of the answers of all answered steps."""
    return logits[len(logits) - (episodes.plan.steps - first) :]


def _gradient(subject: Subject, path: Callable[[Method, Episodes], Tensor]) -> list[Tensor] | None:
    """The gradient of each parameter that learns (zeros where unused), or None where the answers carry none."""
    method = subject.fresh(double=subject.double)
    learning = [each for each in method.parameters() if each.requires_grad]
    with poisoned(), torch.enable_grad():
        logits = path(method, subject.given(subject.episodes, subject.double))
        if not logits.requires_grad:
            return None
        weight = uniform(tuple(logits.shape), "weight of each logit").to(logits)
        found = torch.autograd.grad((logits * weight).sum(), learning, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(learning, found, strict=True)]


def _named(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")
