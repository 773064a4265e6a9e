"""What a method costs while it is scored: parameters, floating-point operations and bytes of state."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from harness.episodes.plan import NULL, STREAM, EpisodePlan
from harness.episodes.source import Episodes
from harness.evaluation.operations import Operations
from harness.evaluation.rollout import query_logits, steps
from harness.method.interface import MASKS, Method, State, state_bytes
from harness.records.parts import Cost


def measured_cost(method: Method, plan: EpisodePlan, later: Method | None = None) -> Cost:
    """The cost of one episode of a plan, measured by going through it on the CPU with empty images.

    Operations count two for a multiply and add, as the papers do. A step is one observe and one predict (for a
    support pair one observe), averaged over the steps before the queries; what a query costs, `adapt` and all, is
    given apart. The growth of the state with t is taken between the middle of these steps and their end; that with
    the label delay after as many steps of the same stream with labels one step later, walked by `later`: the method
    itself, or one like it that was told so. It is left open where there is no stream.
    """
    probe = copy.deepcopy(method).cpu().eval()
    episodes = _empty(probe, plan)
    gflop, sizes, state = _walked(probe, episodes)
    gflop_per_query = None
    if plan.first_query < plan.steps:
        with _counting(method) as queries:
            query_logits(probe, episodes, state)
        gflop_per_query = queries.total / (plan.steps - plan.first_query) / 1e9
    half, count = len(sizes) // 2, len(sizes)
    per_delay = None
    if later is not None and (plan.phase == STREAM).any():
        _, late, _ = _walked(copy.deepcopy(later).cpu().eval(), replace(episodes, plan=_one_step_later(plan)))
        per_delay = float(max(late[-1] - sizes[-1], 0))
    growth = (sizes[-1] - sizes[half]) / (count - 1 - half) if count > half + 1 else 0.0
    return Cost(
        parameters=sum(each.numel() for each in method.parameters()),
        gflop_per_step=gflop / count,
        gflop_per_query=gflop_per_query,
        state_bytes=sizes[-1],
        state_growth="with t" if growth else "constant",
        growth_bytes_per_step=growth,
        growth_bytes_per_delay=per_delay,
    )


def prediction_gflop(method: Method) -> float:
    """10^9 floating-point operations of one answer from a fresh state, counted on the CPU."""
    probe = copy.deepcopy(method).cpu().eval()
    with _counting(method) as counter:
        probe.predict(probe.start(1), torch.zeros(1, *method.task.image_shape))
    return counter.total / 1e9


def step_gflop(method: Method, plan: EpisodePlan) -> float:
    """10^9 floating-point operations of a step before the queries, as `measured_cost` has them."""
    probe = copy.deepcopy(method).cpu().eval()
    gflop, sizes, _ = _walked(probe, _empty(probe, plan))
    return gflop / len(sizes)


def _walked(method: Method, episodes: Episodes) -> tuple[float, list[int], State]:
    """The steps before the queries: their operations (10^9), bytes of the state after each, and the last state."""
    sizes: list[int] = []
    state = None
    with _counting(method) as counter:
        for _, state in steps(method, episodes):
            sizes.append(state_bytes(state))
    return counter.total / 1e9, sizes, state


def _one_step_later(plan: EpisodePlan) -> EpisodePlan:
    """The plan with every label of the stream revealed one step later."""
    before = np.concatenate([[NULL], plan.feedback_step[:-1]])
    return replace(plan, feedback_step=np.where(plan.phase == STREAM, before, plan.feedback_step))


def _empty(method: Method, plan: EpisodePlan) -> Episodes:
    """The first episode of a plan with empty images (and masks)."""
    channels, height, width = method.task.image_shape
    x = torch.zeros(plan.steps, 1, channels, height, width)
    target = torch.from_numpy(plan.target[:1].T.copy())
    if method.task.kind in MASKS:
        target = torch.zeros(plan.steps, 1, 1, height, width)
    return Episodes(x, target, torch.from_numpy(plan.scored)[:, None], plan)


@contextmanager
def _counting(method: Method) -> Iterator[Operations]:
    """Counts operations; LSTMs and attention of torch's modules run as the plain matrix products they are made of."""
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.set_grad_enabled(method.learns_by_gradient),
            torch.backends.mkldnn.flags(enabled=False),
            Operations() as counter,
        ):
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
