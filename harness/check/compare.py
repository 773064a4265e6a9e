"""Comparing answers: bit for bit, or within a stated share of their size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Two ways of computing the same thing agree within this share of the values' size."""

ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-6}
"""A change up to this share of the values' size may be the rounding of kernels that saw other shapes."""

_F64, _F32 = torch.float64, torch.float32
EXACTLY = "bit for bit"
ROUNDED = f"within {ROUNDING[_F64]:g} of their size in float64 ({ROUNDING[_F32]:g} if it computes in float32)"
AGREED = f"within {AGREEMENT[_F64]:g} of their size in float64 ({AGREEMENT[_F32]:g} if it computes in float32)"
TOLERANCES = (
    f"Answers are compared {EXACTLY}. Where the rounding of kernels may differ, a share of their size is allowed: "
    f"{ROUNDING[_F64]:g} in float64 ({ROUNDING[_F32]:g} in float32, for methods that compute in it) of a fast path, "
    f"and of what is answered beside other episodes or queries; {AGREEMENT[_F64]:g} ({AGREEMENT[_F32]:g}) between "
    "stepping and a fast path, between batches of other sizes, and under other class numbers."
)
"""What a report says of how it compares."""


@dataclass(frozen=True)
class Change:
    """Where two series of answers [T, B, ...] first differ, and by how much at most there."""

    step: int
    episode: int
    size: float


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have one shape and type and equal values (NaN equals NaN)."""
    return a.shape == b.shape and a.dtype == b.dtype and not bool(_differs(a, b).any())


def first_change(before: Tensor, after: Tensor, share: float = 0.0) -> Change | None:
    """The first step, and in it the episode, at which [T, B, ...] moved by more than `share`; None if nowhere.

    `share` 0 asks for equal bits (0.0 and -0.0 count as equal). Otherwise an element may move by
    share * (|before| + |after| + the median |before|): element-wise, so that one huge logit (-1e6 for a class
    not yet seen) does not widen the tolerance of the others.
    """
    size = (before.double() - after.double()).abs()
    if share:
        # NaN or infinity on one side compares false, and so counts as moved.
        bound = share * (before.double().abs() + after.double().abs() + before.double().abs().nanmedian())
        moved = ~(size <= bound) & _differs(before, after)
    else:
        moved = _differs(before, after)
    at = moved.flatten(2).any(dim=2) if moved.dim() > 2 else moved
    if not at.any():
        return None
    step = int(at.any(dim=1).nonzero()[0])
    sizes = torch.where(moved, size, 0.0).nan_to_num(nan=torch.inf).flatten(2).amax(dim=2)[step]
    episode = int(sizes.argmax())
    return Change(step, episode, float(sizes[episode]))


def _differs(a: Tensor, b: Tensor) -> Tensor:
    different = a != b
    return different & ~(a.isnan() & b.isnan()) if a.is_floating_point() else different
