"""What a method costs while it is scored: parameters, floating-point operations and bytes of state.

All of it follows from shapes. A method is therefore walked through an episode on torch's device 'meta', where tensors
have shapes and no values and nothing is computed; and a step from a state of the same shapes as an earlier one is that
earlier one again. A method that looks at values (`.item()`, a mask as an index) cannot run there, and one whose state
grows with every step gains nothing from it: these are walked on the CPU, with the same result.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from harness.episodes.plan import NULL, STREAM, EpisodePlan
from harness.episodes.source import Episodes
from harness.evaluation.operations import Operations
from harness.evaluation.rollout import feedback_of, one_step, query_logits
from harness.method.interface import MASKS, Method, State, state_bytes
from harness.records.parts import Cost

T = TypeVar("T")

UNLIKE_STEPS = 8
"""A walk on shapes gives up after so many steps that are all unlike each other; tracing shapes in Python is slower than
computing small layers."""


def measured_cost(method: Method, plan: EpisodePlan, later: Method | None = None) -> Cost:
    """The cost of one episode of a plan.

    Operations count two for a multiply and add, as the papers do. A step is one observe and one predict (for a
    support pair one observe), averaged over the steps before the queries; what a query costs, `adapt` and all, is
    given apart. The growth of the state with t is taken between the middle of these steps and their end; that with
    the label delay after as many steps of the same stream with labels one step later, walked by `later`: the method
    itself, or one like it that was told so. It is left open where there is no stream.
    """
    return _on_shapes(lambda device: _measured(method, plan, later, device))


def prediction_gflop(method: Method) -> float:
    """10^9 floating-point operations of one answer from a fresh state."""

    def counted(device: torch.device) -> float:
        probe = _probe(method, device)
        with _counting(method) as counter:
            probe.predict(probe.start(1), torch.zeros(1, *method.task.image_shape, device=device))
        return counter.total / 1e9

    return _on_shapes(counted)


def step_gflop(method: Method, plan: EpisodePlan) -> float:
    """10^9 floating-point operations of a step before the queries, as `measured_cost` has them."""

    def counted(device: torch.device) -> float:
        gflop, sizes, _ = _walked(_probe(method, device), _empty(method, plan, device))
        return gflop / len(sizes)

    return _on_shapes(counted)


def _on_shapes(measure: Callable[[torch.device], T]) -> T:
    """What is measured on the device 'meta', or on the CPU for a method that does not run there, whatever it raises."""
    try:
        return measure(torch.device("meta"))
    except Exception:
        return measure(torch.device("cpu"))


def _measured(method: Method, plan: EpisodePlan, later: Method | None, device: torch.device) -> Cost:
    probe, episodes = _probe(method, device), _empty(method, plan, device)
    gflop, sizes, state = _walked(probe, episodes)
    gflop_per_query = None
    if plan.first_query < plan.steps:
        with _counting(method) as queries:
            query_logits(probe, episodes, state)
        gflop_per_query = queries.total / (plan.steps - plan.first_query) / 1e9
    half, count = len(sizes) // 2, len(sizes)
    per_delay = None
    if later is not None and (plan.phase == STREAM).any():
        _, late, _ = _walked(_probe(later, device), replace(episodes, plan=_one_step_later(plan)))
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


def _walked(method: Method, episodes: Episodes) -> tuple[float, list[int], State]:
    """The steps before the queries: their operations (10^9), bytes of the state after each, and the last state.

    On the device 'meta' a step of a kind that was seen before is not taken again. Raises RuntimeError there for a
    method that `UNLIKE_STEPS` forbids.
    """
    plan, feedback = episodes.plan, feedback_of(episodes).target
    seen: list[tuple[object, int, State]] = []
    sizes: list[int] = []
    with _counting(method) as counter:
        state = method.start(1)
    total = counter.total
    for t in range(plan.first_query):
        kind = (plan.phase[t], _shape_of(state)) if feedback.is_meta else None
        earlier = next((each for each in seen if each[0] == kind), None) if kind else None
        if earlier is None:
            with _counting(method) as counter:
                _, state = one_step(method, episodes, feedback, t, state)
            earlier = (kind, counter.total, state)
            if kind:
                seen.append(earlier)
        if len(seen) > UNLIKE_STEPS:
            raise RuntimeError(f"the first {len(seen)} steps are all unlike each other")
        _, operations, state = earlier
        total += operations
        sizes.append(state_bytes(state))
    return total / 1e9, sizes, state


def _shape_of(state: State) -> object:
    """All of a state that operations can depend on where there are no values; TypeError where that is not known."""
    leaves, structure = pytree.tree_flatten(state)
    found: list[object] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.grad_fn is None:
            found.append((leaf.shape, leaf.dtype, leaf.requires_grad))
        elif isinstance(leaf, int | float | str | None):
            found.append(leaf)
        else:
            raise TypeError(f"a state that holds {type(leaf).__name__} is not known by its shapes")
    return found, structure


def _one_step_later(plan: EpisodePlan) -> EpisodePlan:
    """The plan with every label of the stream revealed one step later."""
    before = np.concatenate([[NULL], plan.feedback_step[:-1]])
    return replace(plan, feedback_step=np.where(plan.phase == STREAM, before, plan.feedback_step))


def _probe(method: Method, device: torch.device) -> Method:
    """A copy of the method in evaluation mode, which a walk may change."""
    return copy.deepcopy(method).to(device).eval()


def _empty(method: Method, plan: EpisodePlan, device: torch.device) -> Episodes:
    """The first episode of a plan with empty images (and masks)."""
    channels, height, width = method.task.image_shape
    x = torch.zeros(plan.steps, 1, channels, height, width, device=device)
    target = torch.from_numpy(plan.target[:1].T.copy()).to(device)
    if method.task.kind in MASKS:
        target = torch.zeros(plan.steps, 1, 1, height, width, device=device)
    return Episodes(x, target, torch.from_numpy(plan.scored)[:, None].to(device), plan)


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
