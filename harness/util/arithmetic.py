"""Precision of arithmetic: what training may round its convolutions and matrix products to. Scoring is in fp32 always.

`bf16` is of convolutions alone: their inputs and weights are rounded to bfloat16, sums are of 32 bits, and what they
give is float32 again. States of methods, normalisation, LSTMs, losses and optimisers thereby stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from harness.util.errors import UserError, unknown
from harness.util.precision import PRECISIONS, Precision

_CONVOLUTIONS = frozenset(
    {torch.conv1d, torch.conv2d, torch.conv3d, F.conv1d, F.conv2d, F.conv3d}
    | {torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d}
)
_TYPE: ContextVar[torch.dtype | None] = ContextVar("convolution_dtype", default=None)


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raises UserError for a precision of no such name, and where a device cannot compute so, with what it has."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    there = available(device)
    if precision in there:
        return
    where = "the processor has neither AVX512_BF16 nor AMX" if device.type == "cpu" else "the GPU is older than Ampere"
    if device.type == "cpu" and precision == "tf32":
        where = "tf32 is a mode of GPUs"
    raise UserError(f"precision '{precision}' cannot be used on device '{device}': {where}; it has {', '.join(there)}")


def available(device: torch.device) -> list[Precision]:
    """The precisions in which a device computes faster than in emulation; fp32 is one of them always."""
    if device.type == "cuda":
        return list(PRECISIONS) if torch.cuda.get_device_capability(device) >= (8, 0) else ["fp32"]
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return ["fp32", "bf16"] if has.get("avx512_bf16") or has.get("amx_bf16") else ["fp32"]
    return ["fp32"]


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within, torch computes in this precision on a device; the settings before are put back afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    token = _TYPE.set(torch.bfloat16 if precision == "bf16" else None)
    try:
        if precision == "bf16":
            with _Rounded():
                yield
        else:
            yield
    finally:
        _TYPE.reset(token)
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def stay_exact(device: torch.device) -> None:
    """Computes in fp32 on a device for the rest of the process."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def convolution_dtype(x: Tensor) -> torch.dtype:
    """The type that convolutions of x are computed in at present, for code that calls their kernels itself."""
    return _TYPE.get() or x.dtype


class _Rounded(TorchFunctionMode):
    """Convolutions of float32 in bfloat16, forward and backward, with results in float32."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func not in _CONVOLUTIONS:
            return func(*args, **kwargs or {})
        rounded = [_rounded(each) for each in args]
        return func(*rounded, **{name: _rounded(each) for name, each in (kwargs or {}).items()}).float()


def _rounded(value: Any) -> Any:
    return value.bfloat16() if isinstance(value, Tensor) and value.dtype == torch.float32 else value
