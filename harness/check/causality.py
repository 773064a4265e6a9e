"""What an answer may depend on: inputs so far, and labels revealed so far."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.check.compare import Change, first_change, same
from harness.check.report import Finding
from harness.check.subject import Run, Subject
from harness.check.tasks import changed, first_seen
from harness.episodes import Episodes


def no_anticipation(subject: Subject) -> Finding:
    """Replaces all that the answers up to step s may not see: inputs after s, labels not revealed by then.

    Stepping must keep these answers bit for bit. `rollout` and `absorb` must too, except that a change of bits
    which shrinks with the precision is rounding and reported as a note (`Subject.leaked`). The last step stands for
    all answers: those to queries may depend on all inputs, and on no label of a query. Support pairs are not answered;
    there it is the state after them that must keep its bits.
    """
    note = Finding()
    for said, run in subject.paths():
        for cut in _cuts(subject):
            after = _without_future(subject, cut)
            seen = slice(None, cut + 1)
            change, moved = _moved(subject, run, after, seen)
            if change is not None:
                return _accused(subject, said, run, cut, change)
            if moved:
                upto = f"answers up to {subject.setting.step(cut)}"
                note = Finding("note", f"{said}{upto} moved within rounding when the future changed")
    return _early_state(subject) or note


def label_timing(subject: Subject) -> Finding:
    """Changes one label at a time: no answer before its reveal may move, and some answer after it must.

    A method without parameters may be a fixed rule that ignores labels: that is a note. One with parameters
    that ignores all labels cannot learn within an episode: that is a failure.
    """
    setting, seen = subject.setting, first_seen(subject.episodes.plan)
    revealed = [int(step) for step in (seen < setting.steps).nonzero()]
    first: Change | None = None
    reacted = 0
    for label in sorted({revealed[0], revealed[len(revealed) // 2], revealed[-1]}):
        after = _one_changed(subject, label=label)
        for said, run in subject.paths():
            change, _ = _moved(subject, run, after, slice(None, int(seen[label])))
            if change is not None:
                return _early(subject, said, change, label)
        change = first_change(subject.stepped(subject.episodes), subject.stepped(after))
        if change is not None and first is None:
            first, reacted = change, label
    if first is None:
        every = torch.ones(setting.steps, 1, dtype=torch.bool)
        after = changed(subject.episodes, subject.others, inputs=~every, labels=every)
        first = first_change(subject.stepped(subject.episodes), subject.stepped(after))
        if first is None:
            return _ignores(subject)
        return Finding(reason=f"other labels move the answers from {setting.step(first.step)} on")
    return Finding(
        reason=f"the label of {setting.step(reacted)}{_revealed(subject, reacted)} moves answers from "
        f"{setting.step(first.step)} on (episode {first.episode}: by {first.size:.2g})"
    )


def _cuts(subject: Subject) -> list[int]:
    """Steps after which all is changed: some before the queries, and the very last."""
    shown = subject.setting.asked_from
    return sorted({0, shown // 3, 2 * shown // 3, shown - 1, subject.setting.steps - 1})


def _without_future(subject: Subject, cut: int) -> Episodes:
    """The episodes with everything changed that may not be seen up to step `cut`."""
    time = torch.arange(subject.setting.steps)[:, None]
    unseen = (first_seen(subject.episodes.plan) > cut)[:, None]
    return changed(subject.episodes, subject.others, inputs=time > cut, labels=unseen)


def _moved(subject: Subject, run: Run, after: Episodes, seen: slice) -> tuple[Change | None, bool]:
    """The first change of the answers `seen` (a slice of steps), and whether any of their bits moved."""
    if not subject.answered(run)[seen].any():
        return None, False

    def until(episodes: Episodes, double: bool = False) -> Tensor:
        return run(episodes, double=double)[seen]

    if run == subject.rolled:
        leak = subject.leaked(until, subject.episodes, after)
        return leak.change, leak.moved
    change = first_change(until(subject.episodes), until(after))
    return change, change is not None


def _early_state(subject: Subject) -> Finding | None:
    """A finding if the state after a support pair depends on anything later."""
    setting = subject.setting
    if not setting.pairs:
        return None
    expected = subject.states(subject.episodes)
    for cut in (0, setting.asked_from // 2):
        found = subject.states(_without_future(subject, cut))
        for step in range(cut + 1):
            pairs = zip(expected[step], found[step], strict=False)
            if len(expected[step]) != len(found[step]) or not all(same(a.detach(), b.detach()) for a, b in pairs):
                return Finding(
                    "failed",
                    f"the state after {setting.step(step)} changed when the pairs after {setting.step(cut)} and the "
                    "queries were changed: the method sees them before they are shown",
                    step,
                )
    return None


def _accused(subject: Subject, said: str, run: Run, cut: int, change: Change) -> Finding:
    """Names the one label or input that an answer up to step `cut` saw too early; else all of them."""
    setting, seen = subject.setting, slice(None, cut + 1)
    for label in (first_seen(subject.episodes.plan) > cut).nonzero().flatten().tolist():
        found, _ = _moved(subject, run, _one_changed(subject, label=label), seen)
        if found is not None:
            return _early(subject, said, found, label)
    for shown in range(cut + 1, setting.steps):
        found, _ = _moved(subject, run, _one_changed(subject, shown=shown), seen)
        if found is not None:
            why = f"when the input of {setting.step(shown)} was changed: the method sees an input before it is shown"
            return subject.failure(found, why, said)
    return subject.failure(
        change,
        f"when all inputs after {setting.step(cut)} and all labels revealed after it were changed: "
        "the method sees the future",
        said,
    )


def _one_changed(subject: Subject, label: int | None = None, shown: int | None = None) -> Episodes:
    time = torch.arange(subject.setting.steps)[:, None]
    never = torch.zeros_like(time, dtype=torch.bool)
    return changed(
        subject.episodes,
        subject.others,
        inputs=never if shown is None else time == shown,
        labels=never if label is None else time == label,
    )


def _early(subject: Subject, said: str, change: Change, label: int) -> Finding:
    which = f"{subject.setting.step(label)}{_revealed(subject, label)}"
    why = f"when the label of {which} was changed: the method sees a label before it is revealed"
    return subject.failure(change, why, said)


def _revealed(subject: Subject, label: int) -> str:
    """When a step's label is revealed, as a clause between commas; nothing of a support pair."""
    seen = int(first_seen(subject.episodes.plan)[label])
    if seen == label:
        return ""
    if seen == subject.setting.steps:
        return ", which is never revealed,"
    return f", revealed before {'the queries' if seen == subject.setting.asked_from else f'step {seen}'},"


def _ignores(subject: Subject) -> Finding:
    if not any(True for _ in subject.fresh().parameters()):
        return Finding("note", "does not react to feedback (it has no parameters: a fixed rule)")
    return Finding(
        "failed",
        "no answer changed when every revealed label was changed: the method ignores feedback, so it cannot learn "
        "within an episode",
    )
