"""The written-out backward pass of an LSTM with a memory against automatic differentiation of the same equations."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.nn import memory_access
from methods.nn.memory_access import STATE, Slots
from methods.ntm import Access
from tests.helpers.stepping import seeded

STEPS, EPISODES, UNITS, SLOTS, WIDTH, HEADS = 6, 3, 5, 7, 4, 2
KINDS = [
    (sharpness, reads, writes)
    for sharpness in (None, 3.0)
    for reads in ("after", "before")
    for writes in ("key", "value")
]


def case(
    sharpness: float | None, reads: Any, writes: Any, dtype: torch.dtype = torch.float64
) -> tuple[Access, list[Tensor]]:
    """An access, and leaves: what drives the gates, h, c, the recurrent weights and a memory in use."""
    with seeded(5):
        access = Access(UNITS, SLOTS, WIDTH, HEADS, 0.9, sharpness, reads, writes).to(dtype)
        recur = 0.5 * torch.randn(4 * UNITS, UNITS + HEADS * WIDTH)
        inputs = [
            torch.randn(STEPS, EPISODES, 4 * UNITS),
            torch.randn(EPISODES, UNITS),
            torch.randn(EPISODES, UNITS),
            recur,
        ]
        memory = [torch.randn(EPISODES, SLOTS, WIDTH), torch.randn(EPISODES, HEADS, SLOTS).softmax(-1)]
        memory += [torch.rand(EPISODES, SLOTS), torch.randn(EPISODES, HEADS, WIDTH)]
        return access, [each.to(dtype).requires_grad_(n != 6) for n, each in enumerate(inputs + memory)]


def written_out(access: Access, inputs: list[Tensor]) -> list[Tensor]:
    driven, h, c, recur, *memory = inputs
    slots = dict(zip(STATE, memory, strict=True))
    found, h, c, last = memory_access.steps(access, driven, h, c, slots, recur, access.maps_of_heads())
    return [found, h, c, *last.values()]


def differentiated(access: Access, inputs: list[Tensor]) -> list[Tensor]:
    """The equations of `NTM`, a step after another."""
    driven, h, c, recur, *memory = inputs
    slots: Slots = dict(zip(STATE, memory, strict=True))
    found = []
    for drive in driven:
        gates = drive + torch.cat([h, slots["reads"].flatten(1)], 1) @ recur.t()
        i, f, o, candidate = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * candidate.tanh()
        h = o.sigmoid() * c.tanh()
        slots = access(h, slots)[0]
        found.append(torch.cat([h, slots["reads"].flatten(1)], 1))
    return [torch.stack(found), h, c, *(slots[name] for name in STATE)]


def gradients(access: Access, inputs: list[Tensor], outputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a fixed weighting of all outputs that are differentiable."""
    weighed = [
        (each * torch.linspace(-1, 1, each.numel()).view_as(each)).sum() for each in outputs if each.requires_grad
    ]
    return torch.autograd.grad(
        torch.stack(weighed).sum(), [each for each in inputs if each.requires_grad] + list(access.parameters())
    )


@pytest.mark.parametrize(("sharpness", "reads", "writes"), KINDS)
def test_values_and_gradients_are_those_of_automatic_differentiation(sharpness: Any, reads: Any, writes: Any) -> None:
    access, inputs = case(sharpness, reads, writes)
    ours, theirs = written_out(access, inputs), differentiated(access, inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    found, expected = (gradients(access, inputs, each) for each in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_in_single_precision_gradients_differ_by_rounding() -> None:
    access, inputs = case(3.0, "before", "key", torch.float32)
    found, expected = (gradients(access, inputs, each(access, inputs)) for each in (written_out, differentiated))
    assert all((one - other).norm() <= 1e-5 * other.norm() for one, other in zip(found, expected, strict=True))


def test_several_steps_at_once_are_the_steps_one_by_one() -> None:
    access, inputs = case(3.0, "after", "value")
    whole, (driven, h, c, recur, *memory) = written_out(access, inputs), inputs
    parts = []
    for step in range(STEPS):
        part, h, c, *memory = written_out(access, [driven[step, None], h, c, recur, *memory])
        parts.append(part)
    single = [torch.cat(parts), h, c, *memory]
    torch.testing.assert_close(single, whole, rtol=1e-12, atol=1e-14)
    for one, other in zip(gradients(access, inputs, single), gradients(access, inputs, whole), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("keeps", [True, False])
def test_nothing_is_kept_once_the_outputs_are_gone(keeps: bool) -> None:
    access, inputs = case(3.0, "after", "key")
    gc.collect()
    gc.disable()
    try:
        with torch.set_grad_enabled(keeps):
            outputs = written_out(access, inputs)
        graph = weakref.ref(outputs[0].grad_fn) if keeps else None
        assert outputs[0].requires_grad == keeps
        del outputs
        assert graph is None or graph() is None
    finally:
        gc.enable()
