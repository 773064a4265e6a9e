"""Statistics over a batch in training are those of the whole batch, also where processes share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from harness.training.processes import ALONE, Processes

_PROCESSES: ContextVar[Processes] = ContextVar("processes", default=ALONE)


@contextmanager
def whole_batch_statistics(processes: Processes) -> Iterator[None]:
    """Within, `F.batch_norm` (hence every `nn.BatchNorm`) has the mean and variance of what all processes give it.

    All must call it equally often and in the same order, as they do where the shapes of episodes decide what a method
    computes. torch's `SyncBatchNorm` does the same on GPUs alone, and in modules alone. Normalisation by statistics of
    single episodes is not concerned.
    """
    if processes.alone:
        yield
        return
    token = _PROCESSES.set(processes)
    try:
        with _WholeBatch(processes):
            yield
    finally:
        _PROCESSES.reset(token)


def of_whole_batch(x: Tensor) -> Tensor:
    """x [B, ...] of all episodes of the batch, for a method that has it of those it trains on at present; no gradient.

    In training by one process, and outside of training, that is x itself.
    """
    processes = _PROCESSES.get()
    return x if processes.alone else processes.gathered(x.detach())


class _WholeBatch(TorchFunctionMode):
    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self.processes = processes

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(self.processes, *args, **kwargs or {})
        return func(*args, **kwargs or {})


def _batch_norm(
    processes: Processes,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` of x [N, C, ...], where other processes have more of the N."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    over, shape = [0, *range(2, x.dim())], (1, -1, *(1,) * (x.dim() - 2))
    # In two passes: the square of a mean may be far larger than the variance.
    sums = processes.total(torch.cat([x.sum(over), x.new_tensor([x.numel() // x.shape[1]])]))
    count = sums[-1]
    mean = sums[:-1] / count
    centred = x - mean.view(shape)
    variance = processes.total(centred.square().sum(over)) / count
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(mean.to(running_mean), momentum)
        if running_var is not None:
            running_var.lerp_((variance * count / (count - 1)).to(running_var), momentum)
    normalised = centred * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        normalised = normalised * weight.view(shape)
    return normalised if bias is None else normalised + bias.view(shape)
