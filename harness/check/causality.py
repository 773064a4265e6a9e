"""What an answer may depend on: inputs so far, and labels revealed so far."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.check.compare import Change, first_change, same
from harness.check.report import Finding
from harness.check.subject import Run, Subject
from harness.check.tasks import BATCH, changed, first_seen
from harness.episodes.source import Episodes


def no_anticipation(subject: Subject) -> Finding:
    """Replaces all that the answers up to step s may not see: inputs after s, labels not revealed by then.

    Each episode of the batch has another s. Stepping must keep these answers bit for bit. `rollout` and `absorb` must
    too, except that a change of bits which shrinks with the precision is rounding and reported as a note
    (`Subject.leaked`). The last step stands for all answers: those to queries may depend on all inputs, and on no label
    of a query. Support pairs are not answered; there it is the state after them that must keep its bits.
    """
    note = Finding()
    for said, run in subject.paths():
        cuts = [cut for cut in _cuts(subject) if subject.answer_mask(run)[: cut + 1].any()]
        moved = False
        for at in _shared_out(cuts):
            change, bits = _moved(subject, run, _without_future(subject, at), _up_to(subject, at))
            if change is not None:
                # Cuts one by one, the same for all episodes: else it is episodes that see each other.
                found = _first_seen_early(subject, said, run, cuts)
                if found:
                    return found
            moved = moved or bits
        if moved:
            note = Finding("note", f"{said}answers moved within rounding when the future changed")
    return _early_state(subject) or note


def _first_seen_early(subject: Subject, said: str, run: Run, cuts: list[int]) -> Finding | None:
    for cut in cuts:
        at = torch.full((BATCH,), cut)
        change, _ = _moved(subject, run, _without_future(subject, at), _up_to(subject, at))
        if change is not None:
            return _accused(subject, said, run, cut, change)
    return None


def label_timing(subject: Subject) -> Finding:
    """Changes one label of each episode: no answer before its reveal may move, and some answer after it must.

    Answers keep their bits as in `no_anticipation`.

    A method without parameters may be a fixed rule that ignores labels: that is a note. One with parameters
    that ignores all labels cannot learn within an episode: that is a failure.
    """
    setting, seen = subject.setting, first_seen(subject.setting.timing)
    revealed = [int(step) for step in (seen < setting.steps).nonzero()]
    chosen = sorted({revealed[0], revealed[len(revealed) // 2], revealed[-1]})
    time, label = torch.arange(setting.steps)[:, None], torch.tensor([chosen[b % len(chosen)] for b in range(BATCH)])
    after = _changed(subject, labels=time == label)
    for said, run in subject.paths():
        change, _ = _moved(subject, run, after, time < seen[label])
        # One label at a time, the same of all episodes: else it is episodes that see each other.
        for one in chosen if change is not None else ():
            change, _ = _moved(subject, run, _changed(subject, labels=time == one), time < seen[one])
            if change is not None:
                return _early(subject, said, change, one)
    first = first_change(subject.stepped(), subject.stepped(after))
    if first is None:
        first = first_change(subject.stepped(), subject.stepped(_changed(subject, labels=time >= 0)))
        if first is None:
            return _ignores(subject)
        return Finding(reason=f"other labels move the answers from {setting.step(first.step)} on")
    reacted = int(label[first.episode])
    return Finding(
        reason=f"the label of {setting.step(reacted)}{_revealed(subject, reacted)} moves answers from "
        f"{setting.step(first.step)} on (episode {first.episode}: by {first.size:.2g})"
    )


def _cuts(subject: Subject) -> list[int]:
    """Steps after which all is changed: some before the queries, and the very last."""
    shown = subject.setting.first_query
    return sorted({0, shown // 3, 2 * shown // 3, shown - 1, subject.setting.steps - 1})


def _shared_out(cuts: list[int]) -> list[Tensor]:
    """A cut for each episode [B], so that one run tries several; twice where not every cut would get two episodes."""
    turns = (0,) if 2 * len(cuts) <= BATCH else (0, BATCH // 2)
    return [torch.tensor([cuts[(b + turn) % len(cuts)] for b in range(BATCH)]) for turn in turns]


def _up_to(subject: Subject, cut: Tensor) -> Tensor:
    """The steps up to each episode's cut, bool [T, B]."""
    return torch.arange(subject.setting.steps)[:, None] <= cut


def _without_future(subject: Subject, cut: Tensor) -> Episodes:
    """The episodes with everything changed that may not be seen up to each episode's cut [B]."""
    return _changed(
        subject,
        inputs=~_up_to(subject, cut),
        labels=first_seen(subject.setting.timing)[:, None] > cut,
    )


def _changed(subject: Subject, inputs: Tensor | None = None, labels: Tensor | None = None) -> Episodes:
    never = torch.zeros(subject.setting.steps, 1, dtype=torch.bool)
    return changed(
        subject.episodes,
        subject.others,
        inputs=never if inputs is None else inputs,
        labels=never if labels is None else labels,
    )


def _moved(subject: Subject, run: Run, after: Episodes, seen: Tensor) -> tuple[Change | None, bool]:
    """The first change of the answers `seen` (bool, [T, B] or [T, 1]), and whether any of their bits moved."""
    if not subject.answer_mask(run)[seen.any(1).numpy()].any():
        return None, False

    def until(episodes: Episodes | None, double: bool = False) -> Tensor:
        logits = run(episodes, double=double)
        return logits.masked_fill(~seen.view(*seen.shape, *(1,) * (logits.dim() - 2)), 0)

    if run == subject.rolled:
        leak = subject.leaked(until, None, after)
        return leak.change, leak.moved
    change = first_change(until(None), until(after))
    return change, change is not None


def _early_state(subject: Subject) -> Finding | None:
    """A finding if the state after a support pair depends on anything later."""
    setting = subject.setting
    if not setting.pairs:
        return None
    expected = subject.states(subject.episodes)
    for cut in (0, setting.first_query // 2):
        found = subject.states(_without_future(subject, torch.full((BATCH,), cut)))
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
    setting, time = subject.setting, torch.arange(subject.setting.steps)[:, None]
    for label in (first_seen(setting.timing) > cut).nonzero().flatten().tolist():
        found, _ = _moved(subject, run, _changed(subject, labels=time == label), time <= cut)
        if found is not None:
            return _early(subject, said, found, label)
    for shown in range(cut + 1, setting.steps):
        found, _ = _moved(subject, run, _changed(subject, inputs=time == shown), time <= cut)
        if found is not None:
            why = f"when the input of {setting.step(shown)} was changed: the method sees an input before it is shown"
            return subject.failure(found, why, said)
    return subject.failure(
        change,
        f"when all inputs after {setting.step(cut)} and all labels revealed after it were changed: "
        "the method sees the future",
        said,
    )


def _early(subject: Subject, said: str, change: Change, label: int) -> Finding:
    which = f"{subject.setting.step(label)}{_revealed(subject, label)}"
    why = f"when the label of {which} was changed: the method sees a label before it is revealed"
    return subject.failure(change, why, said)


def _revealed(subject: Subject, label: int) -> str:
    """When a step's label is revealed, as a clause between commas; nothing of a support pair."""
    seen = int(first_seen(subject.setting.timing)[label])
    if seen == label:
        return ""
    if seen == subject.setting.steps:
        return ", which is never revealed,"
    return f", revealed before {'the queries' if seen == subject.setting.first_query else f'step {seen}'},"


def _ignores(subject: Subject) -> Finding:
    if not any(True for _ in subject.fresh().parameters()):
        return Finding("note", "does not react to feedback (it has no parameters: a fixed rule)")
    return Finding(
        "failed",
        "no answer changed when every revealed label was changed: the method ignores feedback, so it cannot learn "
        "within an episode",
    )
