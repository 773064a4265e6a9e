"""Stepping a method by hand, with every intermediate state in view.

Nothing here sees targets: it is given inputs and what `harness.evaluation.rollout.feedback_of` made of the targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.check.conditions import scoring
from harness.episodes.plan import NULL, SUPPORT
from harness.episodes.source import Episodes
from harness.evaluation.answers import answered
from harness.evaluation.rollout import feedback_of
from harness.method.interface import Feedback, Method, State


@dataclass(frozen=True)
class Life:
    """What a method is handed: the steps before the queries, then the queries and the label that is due before them.

    x is [T, B, C, H, W], feedback [T, B] (or masks [T, B, 1, H, W]), queries [Q, B, C, H, W] with Q = 0 where none
    follow, due [B] or None. With `pairs`, each feedback belongs to the x of its own step.
    """

    x: Tensor
    feedback: Tensor
    pairs: bool
    queries: Tensor
    due: Tensor | None

    def until(self, step: int) -> Life:
        """The steps before `step`, without queries."""
        return replace(self, x=self.x[:step], feedback=self.feedback[:step], queries=self.queries[:0], due=None)

    def since(self, step: int) -> Life:
        """The steps from `step` on, and the queries."""
        return replace(self, x=self.x[step:], feedback=self.feedback[step:])

    def rows(self, here: slice) -> Life:
        """Some episodes of the batch."""
        due = None if self.due is None else self.due[here]
        return Life(self.x[:, here], self.feedback[:, here], self.pairs, self.queries[:, here], due)


def life_of(episodes: Episodes) -> Life:
    plan, labels = episodes.plan, feedback_of(episodes).target
    first = plan.first_query
    due = labels[first] if first < plan.steps and plan.feedback_step[first] != NULL else None
    return Life(episodes.x[:first], labels[:first], bool(plan.phase[0] == SUPPORT), episodes.x[first:], due)


def joined(lives: list[Life]) -> Life:
    """Lives of one form as one batch."""
    due = [each.due for each in lives if each.due is not None]
    return replace(
        lives[0],
        x=torch.cat([each.x for each in lives], 1),
        feedback=torch.cat([each.feedback for each in lives], 1),
        queries=torch.cat([each.queries for each in lives], 1),
        due=torch.cat(due) if due else None,
    )


@dataclass(frozen=True)
class Moment:
    """One step: the state before it, after its feedback, and after its input; and the answer [B, ways].

    A support pair is all feedback: it has no answer, and `after` is `observed`.
    """

    step: int
    before: State
    observed: State
    logits: Tensor | None
    after: State


def moments(method: Method, life: Life, state: State) -> Iterator[Moment]:
    """Steps through what comes before the queries, from `state`."""
    for t in range(len(life.feedback)):
        labels, x = life.feedback[t].clone(), life.x[t].clone()
        observed = method.observe(state, Feedback(labels, x if life.pairs else None))
        logits, after = (None, observed) if life.pairs else answered(method, method.predict(observed, x))
        yield Moment(t, state, observed, logits, after)
        state = after


def informed(method: Method, life: Life, state: State) -> State:
    """The state before `adapt`, of the one after the last step: what is still due then is observed."""
    return state if life.due is None else method.observe(state, Feedback(life.due.clone()))


def adapted(method: Method, life: Life, state: State) -> State:
    """The state that queries are asked from, of the one after the last step before them."""
    return method.adapt(informed(method, life, state))


def ask(method: Method, state: State, queries: Tensor) -> Tensor:
    """Logits [Q, B, ways] of queries [Q, B, C, H, W], all asked at once."""
    return method.query(state, queries.transpose(0, 1).clone()).transpose(0, 1)


def walked(method: Method, life: Life, state: State = None) -> tuple[Tensor, State]:
    """Logits [A, B, ways] of all that is answered (A may be 0) and the last state before the queries.

    From `state`, or from a fresh start, as scoring does it.
    """
    with scoring(method):
        if state is None:
            state = method.start(life.x.shape[1])
        answers = []
        for moment in moments(method, life, state):
            if moment.logits is not None:
                answers.append(moment.logits.detach().unsqueeze(0))
            state = moment.after
        if len(life.queries):
            answers.append(ask(method, adapted(method, life, state), life.queries).detach())
    return torch.cat(answers) if answers else torch.empty(0), state


def state_for_queries(method: Method, life: Life) -> State:
    """The state that queries are asked from, of a fresh start."""
    _, state = walked(method, life.until(len(life.feedback)))
    with scoring(method):
        return adapted(method, life, state)
