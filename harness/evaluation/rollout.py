"""The one gate for labels: the only place where targets and methods are in the same function.

A method is handed feedback and inputs, one step at a time; targets and the future stay here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.episodes.plan import NULL, SUPPORT
from harness.episodes.source import Episodes
from harness.evaluation.answers import answered, plain, well_formed
from harness.evaluation.score.credit import credit, overlap
from harness.method.interface import Feedback, Method, State

QUERIES_AT_ONCE = 1000
"""Queries (of all episodes together) that a method is given at once while it is scored; bounds their forked states."""


def feedback_of(episodes: Episodes) -> Feedback:
    """What is revealed before each step, [T, B] or masks [T, B, 1, H, W]: a copy, which a method may edit in place."""
    return Feedback(episodes.revealed.clone())


def without_feedback(episodes: Episodes) -> Episodes:
    """The same episodes with null revealed before every step: its answers are those without feedback."""
    nothing = np.full_like(episodes.plan.feedback_step, NULL)
    return replace(episodes, plan=replace(episodes.plan, feedback_step=nothing))


def steps(method: Method, episodes: Episodes) -> Iterator[tuple[Tensor | None, State]]:
    """Logits [B, ...] (None for a support pair) and the state after each step before the queries."""
    feedback = feedback_of(episodes).target
    state = method.start(episodes.target.shape[1])
    for t in range(episodes.plan.first_query):
        logits, state = one_step(method, episodes, feedback, t, state)
        yield logits, state


def one_step(method: Method, episodes: Episodes, feedback: Tensor, t: int, state: State) -> tuple[Tensor | None, State]:
    """Logits (None for a support pair) and the state after step t, of the state before it; `feedback` is that of
    `feedback_of`."""
    # Clones: a method that edits its inputs in place must not reach the harness's own copy.
    revealed, x = feedback[t].clone(), episodes.x[t].clone()
    if episodes.plan.phase[t] == SUPPORT:
        return None, method.observe(state, Feedback(revealed, x))
    state = method.observe(state, Feedback(revealed))
    logits, state = answered(method, method.predict(state, x))
    return well_formed(method, "predict", logits, x, 1), state


def query_logits(method: Method, episodes: Episodes, state: State) -> Tensor:
    """Logits [Q, B, ways] of the queries, from the state after the last step before them."""
    return torch.cat(list(_answers_to_queries(method, episodes, state)), 1).transpose(0, 1)


def _answers_to_queries(method: Method, episodes: Episodes, state: State) -> Iterator[Tensor]:
    """Logits [B, q, ways] of one part of the queries after the other.

    What is still due then (the label of a stream's last step) is revealed first, once. While a method is scored it is
    given a bounded number of queries at once; in training, or if it is transductive, all, since normalisation may look
    at them together.
    """
    plan = episodes.plan
    source = int(plan.feedback_step[plan.first_query])
    if source != NULL:
        state = method.observe(state, Feedback(episodes.target[source].clone()))
    state = method.adapt(state)
    x = episodes.x[plan.first_query :].transpose(0, 1)
    whole = method.training or method.transductive
    at_once = x.shape[1] if whole else max(1, QUERIES_AT_ONCE // len(x))
    for part in x.split(at_once, dim=1):
        yield well_formed(method, "query", method.query(state, part.clone()), part, 2)


def step_through(method: Method, episodes: Episodes) -> tuple[Tensor, State]:
    """Logits [A, B, ways] (or masks [A, B, 1, H, W]) of the A answered steps, and the last state before the queries.

    By stepping: one observe and one predict a step of the stream, one observe a support pair.
    """
    answers, state = [], None
    for answer, after in steps(method, episodes):
        state = after
        if answer is not None:
            answers.append(answer)
    logits = [torch.stack(answers)] if answers else []
    if episodes.plan.first_query < episodes.plan.steps:
        logits.append(query_logits(method, episodes, state))
    return torch.cat(logits), state


def score_batch(method: Method, episodes: Episodes) -> np.ndarray:
    """What a method earns on episodes by stepping, float64 [T, B]; NaN at support pairs: what reaches a board.

    Each answer is copied when it is given (`answers.plain`), and the copies are scored, in NumPy.
    """
    answers, state = [], None
    for answer, after in steps(method, episodes):
        state = after
        if answer is not None:
            answers.append(plain(answer)[None])
    if episodes.plan.first_query < episodes.plan.steps:
        answers += [plain(part).swapaxes(0, 1) for part in _answers_to_queries(method, episodes, state)]
    where = episodes.plan.answer_mask
    earned = np.full(episodes.plan.target.T.shape, np.nan)
    logits, target = np.concatenate(answers), episodes.target.cpu().numpy()[where]
    if episodes.objects is None:
        earned[where] = credit(logits, target)
    else:
        earned[where] = overlap(logits, target, episodes.objects.cpu().numpy()[where])
    return earned


def training_logits(method: Method, episodes: Episodes) -> Tensor:
    """Logits for training: of the queries where there are some, else of all steps.

    By the method's own `rollout` or `absorb` where it has one, else by stepping.
    """
    plan, feedback = episodes.plan, feedback_of(episodes)
    if plan.first_query == plan.steps:
        fast = method.rollout(episodes.x, feedback)
        return step_through(method, episodes)[0] if fast is None else fast
    return query_logits(method, episodes, absorbed(method, episodes))


def absorbed(method: Method, episodes: Episodes) -> State:
    """The state after the last step before the queries, by the method's own `absorb` where it has one."""
    x, feedback = before_queries(episodes)
    state = method.absorb(method.start(x.shape[1]), x, feedback)
    if state is None:
        for _, after in steps(method, episodes):
            state = after
    return state


def before_queries(episodes: Episodes) -> tuple[Tensor, Feedback]:
    """What `absorb` is given: the inputs before the queries [T, B, C, H, W] and their feedback."""
    first = episodes.plan.first_query
    x, target = episodes.x[:first], feedback_of(episodes).target[:first]
    pairs = bool((episodes.plan.phase[:first] == SUPPORT).all())
    return x, Feedback(target, x if pairs else None)
