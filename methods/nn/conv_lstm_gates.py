"""The gates of one step of a convolutional LSTM, forward and backward, in plain torch operations.

This is the reference, and what runs wherever `conv_lstm_triton` does not. All maps are [B, H, W, C] (the four gates
[B, H, W, 4 C], in the order i, f, o, g), contiguous; results are written into buffers that the caller owns.
"""

from __future__ import annotations

import torch
from torch import Tensor


def forward(driven: Tensor, hidden: Tensor, c: Tensor, gates: Tensor, cell: Tensor, tanh: Tensor, h: Tensor) -> None:
    """Fills `gates` with the activated gates, `cell` with c', `tanh` with tanh(c') and `h` with h'.

    The gates' inputs are `driven` + `hidden`, what the images and the past outputs give through their convolutions.
    """
    channels = c.shape[-1]
    torch.add(driven, hidden, out=gates)
    gates[..., : 3 * channels].sigmoid_()
    gates[..., 3 * channels :].tanh_()
    i, f, o, g = gates.split(channels, -1)
    torch.mul(i, g, out=h)
    torch.mul(f, c, out=cell)
    cell += h
    torch.mul(o, torch.tanh(cell, out=tanh), out=h)


def backward(d_h: Tensor, d_cell: Tensor, gates: Tensor, c: Tensor, tanh: Tensor, d_gates: Tensor) -> None:
    """Fills `d_gates` with the gradient of the gates' inputs, and turns `d_cell` from that of c' into that of c.

    `d_h` is the gradient of h'; `gates` and `tanh` are what `forward` filled in, `c` is the cell before the step.
    """
    channels = c.shape[-1]
    i, f, o, g = gates.split(channels, -1)
    d_i, d_f, d_o, d_g = d_gates.split(channels, -1)
    torch.mul(d_h, tanh, out=d_o)
    d_cell += torch.ops.aten.tanh_backward(d_h * o, tanh)
    torch.mul(d_cell, g, out=d_i)
    torch.mul(d_cell, c, out=d_f)
    torch.mul(d_cell, i, out=d_g)
    sigmoids = d_gates[..., : 3 * channels]
    torch.ops.aten.sigmoid_backward.grad_input(sigmoids, gates[..., : 3 * channels], grad_input=sigmoids)
    torch.ops.aten.tanh_backward.grad_input(d_g, g, grad_input=d_g)
    d_cell *= f
