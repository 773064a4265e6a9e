"""What a method costs while it is scored: parameters, floating-point operations and bytes of state.

All of it follows from shapes. A method is therefore walked through an episode of empty images on torch's device 'meta',
where tensors have shapes and no values and nothing is computed; and a step from a state of the same shapes as an
earlier one is that earlier one again. A method that looks at values (`.item()`, a mask as an index) cannot run there,
and one whose state grows with every step gains nothing from it: these are walked on the CPU, with the same result. So
is the episode of a run where that is little work: to trace shapes torch first imports its compiler, which takes longer.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from harness.episodes.plan import NULL, STREAM, EpisodePlan
from harness.episodes.source import Episodes
from harness.evaluation.operations import Operations, TooMany
from harness.evaluation.rollout import feedback_of, one_step, query_logits
from harness.method.interface import MASKS, Method, State, state_bytes
from harness.records.parts import Cost

T = TypeVar("T")

UNLIKE_STEPS = 8
"""A walk on shapes gives up after so many steps that are all unlike each other; tracing shapes in Python is slower than
computing small layers."""

LITTLE_WORK = 10**10
"""Operations that are computed rather than traced: less than a second of one core."""

FEW_KERNELS = 40_000
"""Kernels that are run rather than traced, likewise: with their counting, one takes some 60 microseconds."""

SURE_STEPS = 4
"""Steps from which the work of all others is foreseen."""


@dataclass(frozen=True)
class _Place:
    """Where a method is walked, and what was counted there; without a counter, only the state is looked at."""

    device: torch.device
    counter: Operations | None

    def count(self, method: Method, walk: Callable[[], T]) -> tuple[int, T]:
        """The operations of a walk, and what it returns."""
        if self.counter is None:
            with _as_counted(method):
                return 0, walk()
        before = self.counter.total
        with _as_counted(method), self.counter:
            result = walk()
        return self.counter.total - before, result

    def foresee(self, done: int, steps: int) -> None:
        """Raises TooMany where more will be counted in `steps` steps like the `done` first ones than may be."""
        counter = self.counter
        if counter and done == SURE_STEPS and counter.calls * steps / done > counter.most_calls:
            raise TooMany


def measured_cost(method: Method, plan: EpisodePlan, later: Method | None = None) -> Cost:
    """The cost of one episode of a plan.

    Operations count two for a multiply and add, as the papers do. A step is one observe and one predict (for a
    support pair one observe), averaged over the steps before the queries; what a query costs, `adapt` and all, is
    given apart. The growth of the state with t is taken between the middle of these steps and their end; that with
    the label delay after as many steps of the same stream with labels one step later, walked by `later`: the method
    itself, or one like it that was told so. It is left open where there is no stream.
    """
    return _where_it_is_fast(lambda place: _measured(method, plan, later, place))


def prediction_gflop(method: Method) -> float:
    """10^9 floating-point operations of one answer from a fresh state."""

    def counted(place: _Place) -> float:
        probe = _probe(method, place.device)
        x = torch.zeros(1, *method.task.image_shape, device=place.device)
        return place.count(method, lambda: probe.predict(probe.start(1), x))[0] / 1e9

    return _on_shapes(counted)


def step_gflop(method: Method, plan: EpisodePlan) -> float:
    """10^9 floating-point operations of a step before the queries, as `measured_cost` has them."""

    def counted(place: _Place) -> float:
        gflop, sizes, _ = _walked(_probe(method, place.device), _empty(method, plan, place.device), place)
        return gflop / len(sizes)

    return _on_shapes(counted)


def _where_it_is_fast(measure: Callable[[_Place], T]) -> T:
    """What is measured on the CPU if it is little work, and else on shapes: for what a process measures once."""
    little = Operations(LITTLE_WORK, FEW_KERNELS)
    try:
        found = measure(_Place(torch.device("cpu"), little))
        if not little.too_many:  # or else the method caught what told it to stop
            return found
    except Exception as error:
        if not little.too_many and not isinstance(error, TooMany):
            raise
    return _on_shapes(measure)


def _on_shapes(measure: Callable[[_Place], T]) -> T:
    """What is measured on the device 'meta', or on the CPU for a method that does not run there, whatever it raises."""
    try:
        return measure(_Place(torch.device("meta"), Operations()))
    except Exception:
        return measure(_Place(torch.device("cpu"), Operations()))


def _measured(method: Method, plan: EpisodePlan, later: Method | None, place: _Place) -> Cost:
    probe, episodes = _probe(method, place.device), _empty(method, plan, place.device)
    gflop, sizes, state = _walked(probe, episodes, place)
    gflop_per_query = None
    if plan.first_query < plan.steps:
        operations, _ = place.count(method, lambda: query_logits(probe, episodes, state))
        gflop_per_query = operations / (plan.steps - plan.first_query) / 1e9
    half, count = len(sizes) // 2, len(sizes)
    per_delay = None
    if later is not None and (plan.phase == STREAM).any():
        uncounted = replace(place, counter=None)
        _, late, _ = _walked(_probe(later, place.device), replace(episodes, plan=_one_step_later(plan)), uncounted)
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


def _walked(method: Method, episodes: Episodes, place: _Place) -> tuple[float, list[int], State]:
    """The steps before the queries: their operations (10^9), bytes of the state after each, and the last state.

    On the device 'meta' a step of a kind that was seen before is not taken again. Raises RuntimeError there for a
    method that `UNLIKE_STEPS` forbids.
    """
    plan, feedback = episodes.plan, feedback_of(episodes).target
    seen: list[tuple[object, int, State]] = []
    sizes: list[int] = []
    total, state = place.count(method, lambda: method.start(1))
    for t in range(plan.first_query):
        kind = (plan.phase[t], _shape_of(state)) if feedback.is_meta else None
        earlier = next((each for each in seen if each[0] == kind), None) if kind else None
        if earlier is None:
            step = partial(one_step, method, episodes, feedback, t, state)
            operations, (_, state) = place.count(method, step)
            earlier = (kind, operations, state)
            if kind:
                seen.append(earlier)
        if len(seen) > UNLIKE_STEPS:
            raise RuntimeError(f"the first {len(seen)} steps are all unlike each other")
        _, operations, state = earlier
        total += operations
        sizes.append(state_bytes(state))
        place.foresee(len(sizes), plan.first_query)
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
def _as_counted(method: Method) -> Iterator[None]:
    """LSTMs and attention of torch's modules run as the plain matrix products they are made of; and what a method draws
    on the CPU is drawn apart."""
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.random.fork_rng(devices=[]),
            torch.set_grad_enabled(method.learns_by_gradient),
            torch.backends.mkldnn.flags(enabled=False),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
