"""What a method costs while it is scored: parameters, floating-point operations and bytes of state."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.episodes import Episodes
from harness.method import MASKS, Method, state_bytes
from harness.plan import EpisodePlan
from harness.record import Cost
from harness.rollout import asked, steps


def measured_cost(method: Method, plan: EpisodePlan) -> Cost:
    """The cost of one episode of a plan, measured by going through it on the CPU with empty images.

    Operations count two for a multiply and add, as the papers do. A step is one observe and one predict (for a
    support pair one observe), averaged over the steps before the queries; what a query costs, `adapt` and all, is
    given apart. The growth of the state is taken between the middle of these steps and their end.
    """
    probe = copy.deepcopy(method).cpu().eval()
    episodes = _empty(probe, plan)
    sizes: list[int] = []
    state = None
    with _counting(method) as counter:
        for _, state in steps(probe, episodes):
            sizes.append(state_bytes(state))
    gflop_per_query = None
    if plan.asked_from < plan.steps:
        with _counting(method) as queries:
            asked(probe, episodes, state)
        gflop_per_query = queries.get_total_flops() / (plan.steps - plan.asked_from) / 1e9
    half, count = len(sizes) // 2, len(sizes)
    growth = (sizes[-1] - sizes[half]) / (count - 1 - half) if count > half + 1 else 0.0
    return Cost(
        parameters=sum(each.numel() for each in method.parameters()),
        gflop_per_step=counter.get_total_flops() / count / 1e9,
        gflop_per_query=gflop_per_query,
        state_bytes=sizes[-1],
        state_growth="with t" if growth else "constant",
        growth_bytes_per_step=growth,
    )


def _empty(method: Method, plan: EpisodePlan) -> Episodes:
    """The first episode of a plan with empty images (and masks)."""
    channels, height, width = method.task.image_shape
    x = torch.zeros(plan.steps, 1, channels, height, width)
    target = torch.from_numpy(plan.target[:1].T.copy())
    if method.task.kind in MASKS:
        target = torch.zeros(plan.steps, 1, 1, height, width)
    return Episodes(x, target, torch.from_numpy(plan.scored)[:, None], plan)


@contextmanager
def _counting(method: Method) -> Iterator[FlopCounterMode]:
    """Counts operations; without oneDNN the LSTM runs as plain matrix products, which the counter sees."""
    with (
        warnings.catch_warnings(action="ignore"),
        torch.set_grad_enabled(method.learns_by_gradient),
        torch.backends.mkldnn.flags(enabled=False),
        FlopCounterMode(display=False) as counter,
    ):
        yield counter
