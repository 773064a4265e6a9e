"""The state: a pytree of tensors with leading dimension B, never edited in place, and all that is carried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from harness.check.compare import first_change, same
from harness.check.report import CheckResult, Finding, Memory
from harness.check.subject import Subject, scoring
from harness.check.tasks import BATCH, draw
from harness.check.walk import moments, walked
from harness.method import Feedback, State, state_bytes
from harness.rollout import feedback_of


def state_is_batched(subject: Subject) -> Finding:
    """Every leaf of every state is a tensor whose first dimension is B, tried with two batch sizes."""
    for batch in (BATCH, BATCH + 2):
        episodes = draw(subject.setting, "state", batch=batch)
        method = subject.fresh()
        with scoring(method):
            start = method.start(batch)
            problem = _problem(start, batch)
            if problem:
                return Finding("failed", f"start({batch}): {problem}")
            for moment in moments(method, episodes.x, feedback_of(episodes).target, start):
                for name, state in (("observe", moment.observed), ("predict", moment.after)):
                    problem = _problem(state, batch)
                    if problem:
                        return Finding("failed", f"after {name} at step {moment.step}: {problem}", moment.step)
    return Finding()


def nothing_in_place(subject: Subject) -> Finding:
    """No call changes the states, feedback, inputs or answers that it or an earlier call was given or gave."""
    method = subject.fresh()
    told = feedback_of(subject.episodes).target
    kept: list[_Copy] = []
    with scoring(method):
        state = method.start(BATCH)
        for t in range(len(told)):
            feedback, x = told[t].clone(), subject.episodes.x[t].clone()
            recent = _copies(state, f"the state before step {t}") + _copies(feedback, f"the feedback of step {t}")
            state = method.observe(state, Feedback(feedback))
            edited = _edited(recent)
            if edited:
                return Finding("failed", f"observe at step {t} edited {edited} in place", t)
            recent += _copies(state, f"the state after the feedback of step {t}") + _copies(x, f"the input of step {t}")
            logits, state = method.predict(state, x)
            edited = _edited(recent)
            if edited:
                return Finding("failed", f"predict at step {t} edited {edited} in place", t)
            kept += recent + _copies(logits, f"the answer of step {t}")
    edited = _edited(kept)
    return Finding("failed", f"a later call edited {edited} in place") if edited else Finding()


def state_is_all(subject: Subject) -> Finding:
    """Forking a state and continuing both forks gives what one continuation gives; so does one episode's slice.

    The forks are compared bit for bit; a slice runs through the kernels of a batch of one, so it is compared
    within the stated tolerance (`compare.AGREEMENT`).
    """
    fork = subject.setting.steps // 2
    x, told = subject.episodes.x, feedback_of(subject.episodes).target
    other, other_told = subject.others.x[fork:], feedback_of(subject.others).target[fork:]
    plain = subject.fresh()
    _, state = walked(plain, x[:fork], told[:fork])
    expected, _ = walked(plain, x[fork:], told[fork:], state)

    forked = subject.fresh()
    _, state = walked(forked, x[:fork], told[:fork])
    walked(forked, other, other_told, pytree.tree_map(_cloned, state))
    change = first_change(expected, walked(forked, x[fork:], told[fork:], state)[0])
    if change is not None:
        return Finding(
            "failed",
            f"answer at step {fork + change.step} of episode {change.episode} changed by {change.size:.3g} when the "
            f"state after step {fork - 1} had been continued another way before: something is kept outside the state",
            fork + change.step,
            change.episode,
            change.size,
        )

    method = subject.fresh(double=subject.double)
    x = x.double() if subject.double else x
    _, state = walked(method, x[:fork], told[:fork])
    together, _ = walked(method, x[fork:], told[fork:], state)
    here = slice(BATCH // 2, BATCH // 2 + 1)
    one = pytree.tree_map(lambda leaf: leaf[here], state)
    alone, _ = walked(method, x[fork:, here], told[fork:, here], one)
    change = first_change(together[:, here], alone, subject.agreement)
    if change is not None:
        return Finding(
            "failed",
            f"answer at step {fork + change.step} of episode {here.start} changed by {change.size:.3g} when its state "
            f"was cut out of the batch after step {fork - 1}: part of what it needs is not in its own rows",
            fork + change.step,
            here.start,
            change.size,
        )
    return Finding()


def memory(subjects: list[Subject]) -> Memory:
    """Bytes of one episode's state after each step at each label delay, and how they grow.

    Growth with t is taken over the steps after the first labels, so that a queue that fills up and then stays
    does not count; growth with d at equal t, between the shortest and the longest delay.
    """
    sizes = {subject.setting.delay: _sizes(subject) for subject in subjects}
    per_step = max(_slope(series, delay) for delay, series in sizes.items())
    short, long = min(sizes), max(sizes)
    last = min(len(series) for series in sizes.values()) - 1
    per_delay = (sizes[long][last] - sizes[short][last]) / (long - short) if long > short else 0.0
    with_t, with_d = per_step > 0, per_delay > 0
    growth = "with t and d" if with_t and with_d else "with t" if with_t else "with d" if with_d else "constant"
    return Memory(sizes, growth, per_step, max(per_delay, 0.0))


def memory_result(found: Memory) -> CheckResult:
    """The measured memory as a line of the report; never a failure."""
    ends = ", ".join(f"{series[-1]} bytes at delay {d}" for d, series in found.bytes_after_step.items())
    rates = [f"{found.bytes_per_step:g} bytes a step"] if found.bytes_per_step > 0 else []
    rates += [f"{found.bytes_per_delay:g} bytes a step of label delay"] if found.bytes_per_delay > 0 else []
    steps = max(map(len, found.bytes_after_step.values()))
    return CheckResult(
        "state size",
        "the bytes that one episode's state takes, and how they grow",
        "passed",
        f"one episode's state after {steps} steps: {ends}; {found.growth}"
        + (f" ({', '.join(rates)})" if rates else ""),
    )


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
        told = feedback_of(subject.episodes).target
        walk = moments(method, subject.episodes.x, told, method.start(BATCH))
        return [state_bytes(moment.after) for moment in walk]


def _slope(series: list[int], delay: int) -> float:
    """Bytes per step over the second half, at the earliest from the step after the first label."""
    settled = max(len(series) // 2, delay + 1)
    return (series[-1] - series[settled]) / (len(series) - 1 - settled)
