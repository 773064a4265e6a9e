"""What an answer may depend on: inputs so far, and labels revealed so far."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.check.compare import Change, first_change
from harness.check.report import Finding
from harness.check.subject import Run, Subject
from harness.check.tasks import changed, delayed, draw, revealing
from harness.episodes import Episodes
from harness.plan import NULL

CLEAR = 0.15
"""By this much another label delay must fit better than the true one before pairing is called wrong."""


def no_anticipation(subject: Subject) -> Finding:
    """Replaces all that the answers up to step s may not see: inputs after s, targets after s - d.

    Stepping must keep these answers bit for bit. `rollout` must too, except that a change of bits which
    shrinks with the precision is rounding and reported as a note (`Subject.leaked`).
    """
    note = Finding()
    for said, run in subject.paths():
        for cut in _cuts(subject):
            time = torch.arange(subject.setting.steps)[:, None]
            seen = slice(None, cut + 1)
            after = changed(
                subject.episodes, subject.others, inputs=time > cut, labels=time > cut - subject.setting.delay
            )
            change, moved = _moved(subject, run, after, seen)
            if change is not None:
                return _accused(subject, said, run, cut, change)
            if moved:
                note = Finding("note", f"{said}answers up to step {cut} moved within rounding when the future changed")
    return note


def label_timing(subject: Subject) -> Finding:
    """Changes one label at a time: no answer before its reveal may move, and some answer after it must.

    A method without parameters may be a fixed rule that ignores labels: that is a note. One with parameters
    that ignores all labels cannot learn within an episode: that is a failure.
    """
    steps, delay = subject.setting.steps, subject.setting.delay
    first: Change | None = None
    reacted = 0
    for label in sorted({0, (steps - delay) // 2, steps - delay - 1}):
        after = _one_changed(subject, label=label)
        for said, run in subject.paths():
            change, _ = _moved(subject, run, after, slice(None, label + delay))
            if change is not None:
                return _early(said, change, label, delay, steps)
        change = first_change(subject.stepped(subject.episodes), subject.stepped(after))
        if change is not None and first is None:
            first, reacted = change, label
    if first is None:
        every = torch.ones(steps, 1, dtype=torch.bool)
        after = changed(subject.episodes, subject.others, inputs=~every, labels=every)
        first = first_change(subject.stepped(subject.episodes), subject.stepped(after))
        if first is None:
            return _ignores(subject)
        return Finding(reason=f"other labels move the answers from step {first.step} on")
    return Finding(
        reason=f"the label of step {reacted}, revealed before step {reacted + delay}, moves answers from step "
        f"{first.step} on (episode {first.episode}: by {first.size:.2g})"
    )


def pairing(subject: Subject) -> Finding:
    """A method that is told d must pair a label with the input of d steps before.

    No oracle says what an untrained method should answer, so the method is its own: told d, it steps through
    episodes of constant images (every showing of a class is the same image) whose labels really come e
    steps late, for several e. A label's effect (logits with labels minus logits without any) should favour the class
    shown most when e is d. One that pairs with another step's input does best at another e, and is named.
    """
    if not subject.fresh().needs_label_delay:
        return Finding("skipped", "the method is not told the label delay: it must work out which step is meant")
    told = subject.setting.delay
    episodes = draw(subject.setting, "pairing", batch=8, steps=16 + told, noise=0.0)
    silent = subject.stepped(revealing(episodes, np.full(16 + told, NULL)))
    fits: dict[int, float] = {}
    for delay in range(told + 3):
        real = revealing(episodes, delayed(16 + told, delay))
        try:
            fits[delay] = _fit(real, subject.stepped(real).double() - silent.double())
        except Exception:  # a method may refuse labels that come at another time than it was told
            if delay == told:
                raise
    best = max(fits, key=lambda delay: (fits[delay], -abs(delay - told)))
    if fits[best] > fits[told] + CLEAR:
        late = f"{best} step{'s' if best != 1 else ''}"
        return Finding(
            "failed",
            f"told that labels come {told} step{'s' if told != 1 else ''} late, it pairs each label with the input of "
            f"{late} before: its answers fit labels that are {late} late ({fits[best]:.0%} of comparisons right) "
            f"better than labels that are {told} late ({fits[told]:.0%})",
        )
    if fits[told] < 0.5 + CLEAR:
        return Finding("note", f"untrained, it favours the right class too little to tell ({fits[told]:.0%})")
    return Finding(reason=f"labels {told} late favour the class they belong to ({fits[told]:.0%} of comparisons)")


def _cuts(subject: Subject) -> list[int]:
    steps = subject.setting.steps
    return sorted({0, steps // 3, 2 * steps // 3, steps - 1})


def _moved(subject: Subject, run: Run, after: Episodes, seen: slice) -> tuple[Change | None, bool]:
    """The first change of the answers `seen` (a slice of steps), and whether any of their bits moved."""

    def until(episodes: Episodes, double: bool = False) -> Tensor:
        return run(episodes, double=double)[seen]

    if run == subject.rolled:
        leak = subject.leaked(until, subject.episodes, after)
        return leak.change, leak.moved
    change = first_change(until(subject.episodes), until(after))
    return change, change is not None


def _accused(subject: Subject, said: str, run: Run, cut: int, change: Change) -> Finding:
    """Names the one label or input that an answer up to step `cut` saw too early; else all of them."""
    steps, delay = subject.setting.steps, subject.setting.delay
    seen = slice(None, cut + 1)
    for label in range(max(0, cut - delay + 1), steps):
        found, _ = _moved(subject, run, _one_changed(subject, label=label), seen)
        if found is not None:
            return _early(said, found, label, delay, steps)
    for shown in range(cut + 1, steps):
        found, _ = _moved(subject, run, _one_changed(subject, shown=shown), seen)
        if found is not None:
            return _finding(
                found, f"{said}{found.where} changed by {found.size:.3g} when the input of step {shown} was changed: "
                "the method sees an input before it is shown"
            )  # fmt: skip
    return _finding(
        change, f"{said}{change.where} changed by {change.size:.3g} when all inputs after step {cut} and all labels "
        f"revealed after it were changed: the method sees the future"
    )  # fmt: skip


def _one_changed(subject: Subject, label: int | None = None, shown: int | None = None) -> Episodes:
    time = torch.arange(subject.setting.steps)[:, None]
    never = torch.zeros_like(time, dtype=torch.bool)
    return changed(
        subject.episodes,
        subject.others,
        inputs=never if shown is None else time == shown,
        labels=never if label is None else time == label,
    )


def _early(said: str, change: Change, label: int, delay: int, steps: int) -> Finding:
    reveal = f"revealed before step {label + delay}" if label + delay < steps else "which is never revealed"
    return _finding(
        change,
        f"{said}{change.where} changed by {change.size:.3g} when the label of step {label}, {reveal}, was changed: "
        "the method sees a label before it is revealed",
    )


def _ignores(subject: Subject) -> Finding:
    if not any(True for _ in subject.fresh().parameters()):
        return Finding("note", "does not react to feedback (it has no parameters: a fixed rule)")
    return Finding(
        "failed",
        "no answer changed when every revealed label was changed: the method ignores feedback, so it cannot learn "
        "within an episode",
    )


def _fit(episodes: Episodes, effect: Tensor) -> float:
    """How often the effect of labels favours the class shown over another, both with a label revealed by then."""
    ways = episodes.plan.classes.shape[1]
    told = torch.from_numpy(np.ascontiguousarray(episodes.plan.feedback.T))
    known = (told[..., None] == torch.arange(ways)).cumsum(0) > 0  # [T, B, ways]
    right = episodes.target[..., None]
    fair = known & known.gather(-1, right) & (right != torch.arange(ways))
    own = effect.gather(-1, right)
    won = (own > effect).double() + 0.5 * (own == effect).double()
    return float(won[fair].mean()) if fair.any() else 0.5


def _finding(change: Change, reason: str) -> Finding:
    return Finding("failed", reason, change.step, change.episode, change.size)
