"""What an answer must not depend on: other episodes, earlier runs, and global randomness."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.check.compare import Change, first_change
from harness.check.conditions import scoring
from harness.check.report import Finding
from harness.check.subject import Subject
from harness.check.tasks import BATCH, changed, draw, only
from harness.evaluation.rollout import step_through
from harness.method.interface import Method
from harness.util.errors import first_few


def no_cross_talk(subject: Subject) -> Finding:
    """Replaces all episodes of the batch but one: its answers keep their bits. Alone, it answers the same.

    A change of bits that shrinks with the precision is rounding and reported as a note (`Subject.leaked`). A
    batch of one runs through other kernels, so there the stated tolerance (`compare.AGREEMENT`) holds. Of a fast path
    one episode is asked for; the rest follows from its agreement with stepping, which is a check of its own.
    """
    note = Finding()
    for said, run in subject.paths():
        for episode in (0, BATCH - 1) if run == subject.stepped else (0,):
            rest = torch.arange(BATCH)[None] != episode
            after = changed(subject.episodes, subject.others, inputs=rest, labels=rest)
            leak = subject.leaked(run, None, after, slice(episode, episode + 1))
            if leak.change is not None:
                return _mixed(subject, said, leak.change, episode, "the other episodes of the batch were replaced")
            if leak.moved:
                note = Finding("note", f"{said}answers moved within rounding when the other episodes were replaced")
    episode = BATCH // 2
    alone = subject.stepped(only(subject.episodes, episode), double=subject.double)
    together = subject.stepped(double=subject.double)[:, episode : episode + 1]
    change = first_change(together, alone, subject.agreement)
    if change is not None:
        when = f"the episode was answered alone (tolerance {subject.agreement:g} of its size)"
        return _mixed(subject, "", change, episode, when)
    return note


def repeatable(subject: Subject) -> Finding:
    """Two fresh instances with the same weights, under the same random states, give the same bits."""
    again = subject.fresh()
    before = contents(again)
    change = first_change(subject.stepped(), subject.stepped(None, again))
    if change is None:
        subject.exercised = again, before
        return Finding()
    edited = [name for name in _edited(before, again) if name.startswith("class")]
    blame = f" ({edited[0]} changed)" if edited else ""
    return subject.failure(
        change,
        "when a fresh instance with the same weights was asked the same: the method keeps something on its class or in "
        f"a global{blame}, or draws randomness that no seed controls",
    )


def no_hidden_state(subject: Subject) -> Finding:
    """Answers a batch, then others of several sizes, then the first again: the same bits, and the module as it was.

    Where the instance of `repeatable` is at hand, it has answered the batch before; a fast path begins with the other
    batch. A changed parameter or buffer fails. A plain attribute that changed though the answers did not (a cached
    mask) is a note.
    """
    note = Finding()
    for said, run in subject.paths():
        if run == subject.stepped and subject.exercised:
            method, before = subject.exercised
        else:
            method = subject.fresh()
            before = contents(method)
        edited: list[str] = []
        for size in (BATCH - 1, 2 * BATCH, 1) if run == subject.stepped else (BATCH - 1,):
            run(draw(subject.setting, "in between", batch=size), method)
            edited = _edited(before, method)
            if any(name.startswith(("parameter", "buffer")) for name in edited):
                break  # said below; a method that trains while it is scored may not stand another size
        change = first_change(run(), run(None, method))
        edited = _edited(before, method)
        named = f" ({first_few(edited, 3)} changed)" if edited else ""
        if change is not None:
            why = (
                f"when another batch had been answered in between: the method keeps something outside its state{named}"
            )
            return subject.failure(change, why, said)
        lasting = [name for name in edited if name.startswith(("parameter", "buffer"))]
        if lasting:
            return Finding("failed", f"{said}answering changed {first_few(lasting, 3)}: scoring must not train")
        if edited:
            note = Finding("note", f"{said}answering changed {first_few(edited, 3)}, though no answer with it")
    return note


def no_global_randomness(subject: Subject) -> Finding:
    """Answers under two different global random states are the same bits, and neither state is advanced."""
    for said, run in subject.paths():
        change = first_change(run(), run(poison=1))
        if change is not None:
            return subject.failure(
                change,
                "when Python's, NumPy's and torch's global random states were others: the method draws random numbers "
                "while it answers",
                said,
            )
    for said, run in subject.paths():
        advanced = subject.advanced[run.__name__]
        if advanced:
            return Finding("failed", f"{said}answering advanced the global random state of {' and '.join(advanced)}")
    return Finding()


def _mixed(subject: Subject, said: str, change: Change, episode: int, when: str) -> Finding:
    method = subject.fresh()
    with scoring(method):
        step_through(method, subject.episodes)
    # Looked at after a run: a method may switch its layers to train mode only then.
    training = [name for name, module in method.named_modules() if module.training and "Norm" in type(module).__name__]
    blame = f"; '{training[0]}' is in train mode while scoring" if training else ""
    return subject.failure(
        replace(change, episode=episode),
        f"when {when}: the method mixes episodes (batch statistics, or a tensor they share){blame}",
        said,
    )


def contents(method: Method) -> dict[str, Any]:
    """What the module holds, by name, in a form that compares with ==: a copy, so that later edits show."""
    return dict(_held(method))


def _edited(before: dict[str, Any], method: Method) -> list[str]:
    """Names of what the module holds now and did not, or held otherwise, before."""
    return [name for name, held in _held(method) if name not in before or before[name] != held]


def _held(method: Method) -> Iterator[tuple[str, Any]]:
    for name, parameter in method.named_parameters():
        yield f"parameter '{name}'", frozen(parameter)
    for name, buffer in method.named_buffers():
        yield f"buffer '{name}'", frozen(buffer)
    own = set(vars(nn.Module())) - {"training"}  # torch's: hooks are held by numbers that count up in the process
    for path, module in method.named_modules():
        for name, value in vars(module).items():
            if name not in own:
                yield f"attribute '{path + '.' if path else ''}{name}'", frozen(value)
    for cls in type(method).__mro__:
        if cls is Method:
            break
        for name, value in vars(cls).items():
            yield f"class attribute '{cls.__name__}.{name}'", frozen(value)


def frozen(value: Any) -> Any:
    """A value in a form that compares with ==, as a copy: tensors and arrays by their bytes, other objects by class."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return value.dtype, tuple(value.shape), plain.numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return tuple((repr(key), frozen(each)) for key, each in value.items())
    if isinstance(value, list | tuple | deque):
        return tuple(frozen(each) for each in value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    return value if isinstance(value, str | bytes | int | float | bool | None) else type(value)
