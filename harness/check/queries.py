"""Queries: asked from one frozen state, each answered as if it were alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from harness.check.compare import Change, first_change
from harness.check.conditions import scoring
from harness.check.report import Finding
from harness.check.subject import Subject
from harness.check.walk import Life, adapted, ask, life_of, state_for_queries, walked
from harness.method.interface import Method, State


def queries_are_independent(subject: Subject) -> Finding:
    """Asked again, beside other queries, in another order, or more or fewer at once, a query gets the same answer.

    Where the same number is asked the answer keeps its bits, except that a change which shrinks with the precision is
    rounding and reported as a note (`Subject.leaked`). Another number runs through other kernels, so there the stated
    tolerance (`compare.AGREEMENT`) holds.
    """
    if subject.fresh().transductive:
        return Finding("note", "transductive, as the method declares: what it answers may depend on the other queries")
    count = subject.setting.queries
    life, others = life_of(subject.episodes), life_of(subject.others)
    asking = _Asking(subject, life)
    change = first_change(asking(life.queries), asking(life.queries, times=2))
    if change is not None:
        return _failure(
            subject, change, "when the same queries were asked twice: query keeps something outside the state"
        )
    back = torch.arange(count).flip(0)
    note = Finding()
    for place in (0, count - 1):
        besides = others.queries.clone()
        besides[place] = life.queries[place]
        change, moved = asking.leaked(life.queries, besides, torch.tensor([place]), torch.tensor([place]))
        if change is not None:
            return _failure(subject, change, "when the other queries were replaced: queries see each other")
        if moved:
            note = Finding("note", "answers moved within rounding when the other queries were replaced")
    change, moved = asking.leaked(life.queries, life.queries[back], torch.arange(count), back)
    if change is not None:
        return _failure(subject, change, "when the queries were asked in reverse order: their places tell something")
    if moved:
        note = Finding("note", "answers moved within rounding when the queries were asked in reverse order")
    more = torch.cat([life.queries, others.queries])
    together = asking(life.queries, subject.double)
    for said, queries, first in (
        ("alone", life.queries[-1:], count - 1),
        ("without some of the others", life.queries[count // 2 :], count // 2),
        ("with more beside them", more, 0),
    ):
        change = first_change(together[first:], asking(queries, subject.double)[: count - first], subject.agreement)
        if change is not None:
            change = replace(change, step=first + change.step)
            return _failure(subject, change, f"when asked {said}: queries see each other")
    return note


def adapting(subject: Subject) -> Finding:
    """The state that `adapt` gives is a function of the one it is given, and all that it gives.

    Adapting one state twice gives the same answers, and adapting another one in between does not change those from
    the first.
    """
    if type(subject.fresh()).adapt is Method.adapt:
        return Finding("skipped", "the method does not define adapt")
    life, others = life_of(subject.episodes), life_of(subject.others)
    method = subject.fresh()

    def state_after(of: Life) -> State:
        return walked(method, of.until(len(of.feedback)))[1]

    def adapt(of: Life, state: State) -> State:
        with scoring(method):
            return adapted(method, of, state)

    def answers(state: State) -> Tensor:
        with scoring(method):
            return ask(method, state, life.queries).detach()

    before, other = state_after(life), state_after(others)
    after = adapt(life, before)
    first = answers(after)
    change = first_change(first, answers(adapt(life, before)))
    if change is not None:
        return _failure(subject, change, "when the same state was adapted twice: adapt is not a function of the state")
    adapt(others, other)
    change = first_change(first, answers(after))
    if change is not None:
        return _failure(
            subject, change, "when another state had been adapted in between: adapt keeps something outside the state"
        )
    return Finding(reason="the same state adapts to the same, whatever is adapted in between")


class _Asking:
    """Asks one method, from the state after one life, in either precision."""

    def __init__(self, subject: Subject, life: Life) -> None:
        self._subject = subject
        self._lives = {False: life}
        self._advanced: dict[bool, tuple[Method, State]] = {}
        if subject.double:
            self._lives[True] = life_of(subject.given(subject.episodes, double=True))

    def __call__(self, queries: Tensor, double: bool = False, times: int = 1) -> Tensor:
        """Answers [Q, B, ...] to queries [Q, B, C, H, W], of an instance that was asked nothing before; the last of
        several `times`."""
        method, state = self._instance(double)
        with scoring(method):
            for _ in range(times):
                answers = ask(method, state, queries.double() if double else queries).detach()
        return answers

    def _instance(self, double: bool) -> tuple[Method, State]:
        """An instance that has lived through the life and was asked nothing, and its state."""
        if double not in self._advanced:
            method = self._subject.fresh(double=double)
            self._advanced[double] = method, state_for_queries(method, self._lives[double])
        method, state = self._advanced[double]
        try:
            return copy.deepcopy(method), state
        except RuntimeError:  # torch refuses to copy tensors that were computed (old-style weight norm)
            method = self._subject.fresh(double=double)
            return method, state_for_queries(method, self._lives[double])

    def leaked(self, before: Tensor, after: Tensor, here: Tensor, there: Tensor) -> tuple[Change | None, bool]:
        """How the answers `here` to `before` differ from those `there` to `after`, and whether any bit moved."""

        def run(pair: tuple[Tensor, Tensor], double: bool = False) -> Tensor:
            return self(pair[0], double)[pair[1]]

        leak = self._subject.leaked(run, (before, here), (after, there))
        change = leak.change
        return None if change is None else replace(change, step=int(here[change.step])), leak.moved


def _failure(subject: Subject, change: Change, why: str) -> Finding:
    """A failure; `change.step` counts queries."""
    return subject.failure(replace(change, step=subject.setting.first_query + change.step), why)
