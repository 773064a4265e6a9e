"""The state: a pytree of tensors with leading dimension B, never edited in place, and all that is carried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from harness.check.compare import first_change, same
from harness.check.conditions import scoring
from harness.check.report import CheckResult, Finding, Memory
from harness.check.settings import STREAMS
from harness.check.subject import Subject
from harness.check.tasks import BATCH, draw
from harness.check.walk import adapted, informed, life_of, moments, walked
from harness.evaluation.answers import answered
from harness.method.interface import Feedback, State, state_bytes
from harness.util.errors import all_of


def state_is_batched(subject: Subject) -> Finding:
    """Every leaf of every state is a tensor whose first dimension is B, tried with two batch sizes."""
    for batch in (BATCH, BATCH + 2):
        sizes = []
        life = life_of(draw(subject.setting, "state", batch=batch))
        method = subject.fresh()
        with scoring(method):
            start = state = method.start(batch)
            problem = _problem(start, batch)
            if problem:
                return Finding("failed", f"start({batch}): {problem}")
            for moment in moments(method, life, start):
                for name, state in (("observe", moment.observed), ("predict", moment.after)):
                    problem = _problem(state, batch)
                    if problem:
                        where = f"after {name} at {subject.setting.step(moment.step)}"
                        return Finding("failed", f"{where}: {problem}", moment.step)
                sizes.append(state_bytes(moment.after))
            if subject.setting.queries:
                problem = _problem(adapted(method, life, state), batch)
                if problem:
                    return Finding("failed", f"after adapt: {problem}")
        subject.sizes = sizes
    return Finding()


def nothing_in_place(subject: Subject) -> Finding:
    """No call changes the states, feedback, inputs or answers that it or an earlier call was given or gave.

    An answer that shares memory with the state, so that a call may correct it later, is noted where no call does so.
    """
    setting, method, life = subject.setting, subject.fresh(), life_of(subject.episodes)
    held: list[_Copy] = []
    recent: list[_Copy] = []
    shared: Finding | None = None
    with scoring(method):
        state = method.start(BATCH)
        for t in range(len(life.feedback)):
            step, feedback, x = setting.step(t), life.feedback[t].clone(), life.x[t].clone()
            recent = _copies(state, f"the state before {step}") + _copies(feedback, f"the feedback of {step}")
            if life.pairs:
                recent += _copies(x, f"the input of {step}")
            state = method.observe(state, Feedback(feedback, x if life.pairs else None))
            edited = _edited(recent)
            if edited:
                return Finding("failed", f"observe at {step} edited {edited} in place", t)
            recent += _copies(state, f"the state after the feedback of {step}")
            if not life.pairs:
                recent += _copies(x, f"the input of {step}")
                logits, state = answered(method, method.predict(state, x))
                shared = shared or _shared(logits, state, step, t)
                edited = _edited(recent)
                if edited:
                    return Finding("failed", f"predict at {step} edited {edited} in place", t)
                recent += _copies(logits, f"the answer of {step}")
            held += recent
        if setting.queries:
            state = informed(method, life, state)
            recent = _copies(state, "the state before adapt")
            state = method.adapt(state)
            edited = _edited(recent)
            if edited:
                return Finding("failed", f"adapt edited {edited} in place")
            queries = life.queries.transpose(0, 1).clone()
            recent = _copies(state, "the state") + _copies(queries, "the queries")
            method.query(state, queries)
            edited = _edited(recent)
            if edited:
                return Finding("failed", f"query edited {edited} in place")
    edited = _edited(held)
    return Finding("failed", f"a later call edited {edited} in place") if edited else shared or Finding()


def state_is_all(subject: Subject) -> Finding:
    """Forking a state and continuing both forks gives what one continuation gives; so does one episode's slice.

    The forks are compared bit for bit; a slice runs through the kernels of a batch of one, so it is compared
    within the stated tolerance (`compare.AGREEMENT`).
    """
    setting = subject.setting
    life, other = life_of(subject.episodes), life_of(subject.others)
    fork = len(life.feedback) // 2
    first = setting.first_query if setting.pairs else fork  # the first step that is answered after the fork
    parted = f"after {setting.step(fork - 1)}"
    expected = subject.stepped()[first:]
    forked = subject.fresh()
    _, state = walked(forked, life.until(fork))
    walked(forked, other.since(fork), pytree.tree_map(_cloned, state))
    change = first_change(expected, walked(forked, life.since(fork), state)[0])
    if change is not None:
        return subject.failure(
            replace(change, step=first + change.step),
            f"when the state {parted} had been continued another way before: something is kept outside the state, or "
            "found elsewhere than in it",
        )

    method = subject.fresh(double=subject.double)
    life = life_of(subject.given(subject.episodes, subject.double))
    _, state = walked(method, life.until(fork))
    together = subject.stepped(double=subject.double)[first:]
    here = slice(BATCH // 2, BATCH // 2 + 1)
    one = pytree.tree_map(lambda leaf: leaf[here], state)
    alone, _ = walked(method, life.since(fork).rows(here), one)
    change = first_change(together[:, here], alone, subject.agreement)
    if change is not None:
        return subject.failure(
            replace(change, step=first + change.step, episode=here.start),
            f"when its state was cut out of the batch {parted}: part of what it needs is not in its own rows",
        )
    return Finding()


def memory(subjects: list[Subject]) -> Memory | None:
    """Bytes of one episode's state after each step of each setting, and how they grow; None of single steps.

    Growth with t is taken over the steps after the first labels, so that a queue that fills up and then stays
    does not count; growth with d at equal t, between the shortest and the longest delay.
    """
    stateful = [subject for subject in subjects if not subject.setting.silent]
    if not stateful:
        return None
    sizes = {subject.setting.name: subject.sizes or _sizes(subject) for subject in stateful}
    slopes = {subject.setting: _slope(sizes[subject.setting.name], subject.setting.delay or 0) for subject in stateful}
    per_step = max([slope for setting, slope in slopes.items() if not setting.pairs], default=0.0)
    per_pair = max([slope for setting, slope in slopes.items() if setting.pairs], default=0.0)
    streams = [subject.setting for subject in stateful if subject.setting.kind in STREAMS]
    per_delay = 0.0
    if len(streams) > 1:
        short, long = streams[0], streams[-1]  # settings come by delay
        last = min(len(sizes[each.name]) for each in streams) - 1
        more = sizes[long.name][last] - sizes[short.name][last]
        per_delay = max(more / ((long.delay or 0) - (short.delay or 0)), 0.0)
    grows = [name for name, rate in (("t", per_step), ("d", per_delay), ("support pairs", per_pair)) if rate > 0]
    growth = f"with {all_of(grows)}" if grows else "constant"
    return Memory(sizes, growth, per_step, per_delay, per_pair)


def memory_result(found: Memory) -> CheckResult:
    """The measured memory as a line of the report; never a failure."""
    ends = ", ".join(_ending(name, series) for name, series in found.bytes_after_step.items())
    rates = [
        f"{rate:g} bytes a {each}"
        for rate, each in (
            (found.bytes_per_step, "step"),
            (found.bytes_per_delay, "step of label delay"),
            (found.bytes_per_pair, "support pair"),
        )
        if rate > 0
    ]
    return CheckResult(
        "state size",
        "the bytes that one episode's state takes, and how they grow",
        "passed",
        f"one episode's state: {ends}; {found.growth}" + (f" ({', '.join(rates)})" if rates else ""),
    )


def _ending(name: str, series: list[int]) -> str:
    what = "support pairs" if name == "n_way_k_shot" else f"steps at {name}" if "delay" in name else f"steps of {name}"
    return f"{series[-1]} bytes after {len(series)} {what}"


@dataclass(frozen=True)
class _Copy:
    """A tensor that was handed over, a copy of what it held then, and its name for messages."""

    name: str
    tensor: Tensor
    held: Tensor


def _copies(state: State, name: str) -> list[_Copy]:
    return [
        _Copy(f"{name}{_spelled(path)}", leaf, leaf.detach().clone())
        for path, leaf in pytree.tree_leaves_with_path(state)
        if isinstance(leaf, Tensor)
    ]


def _edited(copies: list[_Copy]) -> str | None:
    return next((each.name for each in copies if not same(each.tensor.detach(), each.held)), None)


def _shared(logits: Tensor, state: State, step: str, number: int) -> Finding | None:
    """A note if an answer shares memory with the state after it: an edit of the one would be an edit of the other."""
    place = logits.untyped_storage().data_ptr() if logits.numel() else 0
    for path, leaf in pytree.tree_leaves_with_path(state):
        if place and isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() == place:
            said = f"the answer of {step} shares memory with state{_spelled(path)}; return a copy of it (clone())"
            return Finding("note", said, number)
    return None


def _problem(state: State, batch: int) -> str | None:
    """Why a state is not a pytree of tensors with leading dimension `batch`, or None."""
    for path, leaf in pytree.tree_leaves_with_path(state):
        where = f"the state{_spelled(path)}"
        if not isinstance(leaf, Tensor):
            return (
                f"{where} is of type {type(leaf).__name__}; a state is made of tensors in dicts, tuples and lists, "
                "with numbers as tensors [B]"
            )
        if leaf.dim() == 0 or len(leaf) != batch:
            return (
                f"{where} has shape {list(leaf.shape)} for {batch} episodes; the first dimension must be {batch}, so "
                "that episodes share nothing"
            )
    return None


def _spelled(path: tuple[Any, ...]) -> str:
    """A place in a pytree, as it is written in Python: ['lstm'][0]."""
    return pytree.keystr(path)


def _cloned(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _sizes(subject: Subject) -> list[int]:
    method = subject.fresh()
    with scoring(method):
        return [state_bytes(moment.after) for moment in moments(method, life_of(subject.episodes), method.start(BATCH))]


def _slope(series: list[int], delay: int) -> float:
    """Bytes per step over the second half, at the earliest from the step after the first label."""
    settled = max(len(series) // 2, delay + 1)
    return (series[-1] - series[settled]) / (len(series) - 1 - settled)
