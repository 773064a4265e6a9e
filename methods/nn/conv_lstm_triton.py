"""The gates of one step of a convolutional LSTM as one kernel forward and one backward, for CUDA.

Same contract as `conv_lstm_gates`, whose nine operations forward and eleven backward are each a kernel launch on a
GPU, where launches are what an update waits for. Kernels are compiled at their first call; the module imports Triton,
so it is imported only where it is used.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Elements of c that one program works on."""


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _sum(a, b, inside):  # type: ignore[no-untyped-def]
    # Convolutions may be in bfloat16; what the gates do with them is not.
    return tl.load(a, inside).to(tl.float32) + tl.load(b, inside).to(tl.float32)


@triton.jit
def forward_kernel(driven, hidden, c, gates, cell, tanh, h, count, channels: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """One element of c' per lane; gate k of element (n, j) lies at n * 4 C + k * C + j."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < count
    row = (at // channels) * 4 * channels + at % channels
    i = tl.sigmoid(_sum(driven + row, hidden + row, inside))
    row_f, row_o, row_g = row + channels, row + 2 * channels, row + 3 * channels
    f = tl.sigmoid(_sum(driven + row_f, hidden + row_f, inside))
    o = tl.sigmoid(_sum(driven + row_o, hidden + row_o, inside))
    g = _tanh(_sum(driven + row_g, hidden + row_g, inside))
    after = f * tl.load(c + at, inside) + i * g
    tanh_after = _tanh(after)
    tl.store(gates + row, i, inside)
    tl.store(gates + row_f, f, inside)
    tl.store(gates + row_o, o, inside)
    tl.store(gates + row_g, g, inside)
    tl.store(cell + at, after, inside)
    tl.store(tanh + at, tanh_after, inside)
    tl.store(h + at, o * tanh_after, inside)


@triton.jit
def backward_kernel(d_h, d_cell, gates, c, tanh, d_gates, count, channels: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """One element of c per lane; `d_cell` is read and written in place."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < count
    row = (at // channels) * 4 * channels + at % channels
    row_f, row_o, row_g = row + channels, row + 2 * channels, row + 3 * channels
    i, f = tl.load(gates + row, inside), tl.load(gates + row_f, inside)
    o, g = tl.load(gates + row_o, inside), tl.load(gates + row_g, inside)
    grad, squashed = tl.load(d_h + at, inside), tl.load(tanh + at, inside)
    d_after = tl.load(d_cell + at, inside) + grad * o * (1 - squashed * squashed)
    tl.store(d_gates + row, d_after * g * i * (1 - i), inside)
    tl.store(d_gates + row_f, d_after * tl.load(c + at, inside) * f * (1 - f), inside)
    tl.store(d_gates + row_o, grad * squashed * o * (1 - o), inside)
    tl.store(d_gates + row_g, d_after * i * (1 - g * g), inside)
    tl.store(d_cell + at, d_after * f, inside)


def forward(driven: Tensor, hidden: Tensor, c: Tensor, gates: Tensor, cell: Tensor, tanh: Tensor, h: Tensor) -> None:
    """As `conv_lstm_gates.forward`; all tensors contiguous."""
    _launch(forward_kernel, (driven, hidden, c, gates, cell, tanh, h), c)


def backward(d_h: Tensor, d_cell: Tensor, gates: Tensor, c: Tensor, tanh: Tensor, d_gates: Tensor) -> None:
    """As `conv_lstm_gates.backward`; all tensors contiguous."""
    _launch(backward_kernel, (d_h, d_cell, gates, c, tanh, d_gates), c)


def _launch(kernel: Any, buffers: tuple[Tensor, ...], c: Tensor) -> None:
    count = c.numel()
    kernel[(triton.cdiv(count, BLOCK),)](*buffers, count, channels=c.shape[-1], block=BLOCK)
