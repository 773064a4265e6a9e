"""Maps [N, C, H, W]: the memory layout that convolutions are fastest on, and 2x2 max-pooling."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def channels_last(x: Tensor) -> Tensor:
    """Maps [N, C, H, W] in channels-last memory, on which the convolutions of CPUs and tensor cores are fastest.

    `Tensor.contiguous` leaves maps of one channel as they are, since their memory is the same either way; but then
    every convolution that follows takes the slower layout, by the strides. Here such maps get the other strides.
    """
    if x.dim() == 4 and x.shape[1] == 1:
        return x.contiguous().view(len(x), *x.shape[2:], 1).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def max_pool(x: Tensor) -> Tensor:
    """2x2 max-pool of maps [..., C, H, W].

    Without a graph on a CPU, it is computed as maxima of rows and then of columns: the same values, several times
    faster there than `F.max_pool2d`, which also returns indices. Its own gradient would be slower.
    """
    if x.is_cuda or torch.is_grad_enabled():
        return F.max_pool2d(x, 2)
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


class MaxPool(torch.nn.Module):
    """`max_pool` as a layer.

    It stands before the ReLU, with which it commutes: ReLU then has a quarter of the values, forward and backward.
    """

    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x)
