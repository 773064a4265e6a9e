"""Stepping a method by hand, with every intermediate state in view.

Nothing here sees targets: it is given inputs and what `harness.rollout.feedback_of` made of the targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.check.subject import scoring
from harness.method import Feedback, Method, State


@dataclass(frozen=True)
class Moment:
    """One step: the state before it, after its feedback, and after its input; and the answer [B, ways]."""

    step: int
    before: State
    observed: State
    logits: Tensor
    after: State


def moments(method: Method, x: Tensor, feedback: Tensor, state: State) -> Iterator[Moment]:
    """Steps through inputs x [T, B, C, H, W] and feedback [T, B], from `state`."""
    for t in range(len(feedback)):
        observed = method.observe(state, Feedback(feedback[t].clone()))
        logits, after = method.predict(observed, x[t].clone())
        yield Moment(t, state, observed, logits, after)
        state = after


def walked(method: Method, x: Tensor, feedback: Tensor, state: State = None) -> tuple[Tensor, State]:
    """Logits [T, B, ways] and the last state, from `state` or from a fresh start, as scoring does it."""
    with scoring(method):
        if state is None:
            state = method.start(x.shape[1])
        answers = []
        for moment in moments(method, x, feedback, state):
            answers.append(moment.logits.detach())
            state = moment.after
    return torch.stack(answers), state
