"""The steps of a convolutional LSTM as one differentiable operation, with the backward pass written out.

Automatic differentiation would record nine small operations a step, and compute the gradient of the hidden
convolution's weights once a step. Here the gates of a step are one buffer (one kernel on CUDA), the backward pass walks
the steps once, and the weights' gradient is one convolution over all steps at once.

With i, f, o, g the activated gates, c' = f c + i g and h' = o tanh(c'), the backward pass is, from the last step to the
first (Graves, "Supervised sequence labelling with recurrent neural networks", 2012, equations 4.11 to 4.17, without
peepholes):

    do = dh' tanh(c'),   dc' <- dc' + dh' o (1 - tanh(c')^2)
    di = dc' g,   dg = dc' i,   df = dc' c,   dc = dc' f,   dh = the transposed hidden convolution of the four
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from harness.util.arithmetic import convolution_dtype
from methods.nn import conv_lstm_gates


def steps(driven: Tensor, h: Tensor, c: Tensor, weight: Tensor, empty: bool = False) -> tuple[Tensor, Tensor]:
    """h' of all steps [T, B, H, W, C] and the last c' [B, H, W, C], in the type of h.

    `driven` [T, B, H, W, 4 C] is what the inputs give to the gates i, f, o, g through their convolution; h and c
    [B, H, W, C] are the state before the first step; `weight` [4 C, C, k, k] is that of the hidden convolution, which
    keeps the size. With `empty` the state is zeros, and the first step has no hidden convolution. Convolutions run
    in the type of `convolution_dtype`, forward and backward; gates and states stay in that of h. Differentiable
    once, in all four.
    """
    outputs, cell = _Steps.apply(driven.contiguous(), h.contiguous(), c.contiguous(), weight, empty)
    return outputs, cell


class _Steps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, driven: Tensor, h: Tensor, c: Tensor, weight: Tensor, empty: bool) -> tuple[Tensor, Tensor]:
        kernels, padding = _kernels(h.device.type), weight.shape[-1] // 2
        kernel = _laid_out(weight, convolution_dtype(h))
        outputs = h.new_empty(len(driven) + 1, *h.shape)
        cells, tanh_cells = torch.empty_like(outputs), torch.empty_like(outputs[1:])
        gates = h.new_empty(driven.shape)
        outputs[0], cells[0] = h, c
        hidden = torch.zeros_like(driven[0])
        for t in range(len(driven)):
            if t or not empty:
                hidden = F.conv2d(outputs[t].permute(0, 3, 1, 2).to(kernel.dtype), kernel, padding=padding).permute(
                    0, 2, 3, 1
                )
            kernels.forward(
                driven[t], hidden.contiguous(), cells[t], gates[t], cells[t + 1], tanh_cells[t], outputs[t + 1]
            )
        ctx.save_for_backward(outputs, cells, tanh_cells, gates, weight)
        ctx.convolved = kernel.dtype
        ctx.driven, ctx.empty = driven.dtype, empty
        return outputs[1:], cells[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        outputs, cells, tanh_cells, gates, weight = ctx.saved_tensors
        wants_h, wants_c, wants_weight, _ = ctx.needs_input_grad[1:]
        kernels, kernel = _kernels(gates.device.type), _laid_out(weight, ctx.convolved)
        d_gates, d_cell, d_outputs = torch.empty_like(gates), d_last.clone().contiguous(), d_outputs.contiguous()
        d_h = d_outputs[-1]
        for t in reversed(range(len(gates))):
            kernels.backward(d_h, d_cell, gates[t], cells[t], tanh_cells[t], d_gates[t])
            if t or wants_h:
                d_h = _convolution_backward(d_gates[t], outputs[t], kernel, 0).permute(0, 2, 3, 1).to(gates.dtype)
                d_h = (d_h + d_outputs[t - 1]).contiguous() if t else d_h
        d_weight, first = None, int(ctx.empty)
        if wants_weight:
            d_weight = _convolution_backward(d_gates[first:].flatten(0, 1), outputs[first:-1].flatten(0, 1), kernel, 1)
            d_weight = d_weight.to(weight.dtype)
        return d_gates.to(ctx.driven), d_h if wants_h else None, d_cell if wants_c else None, d_weight, None


def _laid_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weights in channels-last memory, as the maps are, so that not every step's convolution lays them out anew."""
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)


def _convolution_backward(grad: Tensor, inputs: Tensor, weight: Tensor, wanted: int) -> Tensor:
    """The gradient of the inputs (0) or of the weights (1) of a convolution that keeps the size; maps [N, H, W, C].

    In the type of `weight`.
    """
    padding, mask = [weight.shape[-1] // 2] * 2, [wanted == 0, wanted == 1, False]
    maps = [each.to(weight.dtype).permute(0, 3, 1, 2) for each in (grad, inputs)]
    return torch.ops.aten.convolution_backward(*maps, weight, None, [1, 1], padding, [1, 1], False, [0, 0], 1, mask)[
        wanted
    ]


@functools.cache
def _kernels(device: str) -> ModuleType:
    """What computes the gates on a device: Triton on CUDA, the plain operations elsewhere and where Triton fails."""
    if device == "cuda" and importlib.util.find_spec("triton") is not None:
        try:
            from methods.nn import conv_lstm_triton

            return conv_lstm_triton
        except ImportError as error:
            warnings.warn(f"Triton cannot be used ({error}); the gates of ConvLSTM run unfused", stacklevel=2)
    return conv_lstm_gates
