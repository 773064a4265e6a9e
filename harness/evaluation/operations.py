"""Counting floating-point operations by a table of this project, so that no version of torch changes a cost.

torch's own counter knows only the kernels that its version lowers to: attention is three matrix products in one
version and one fused kernel, which is not counted on a CPU, in the next. Here every operator that may stand for the
same computation has the same formula, and what it is made of is counted where it is no single kernel. Two operations
are counted for a multiply and add; what is done element by element is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Formula = Callable[[Sequence[Any], Any], int]
"""Operations of a call, from its positional arguments and its output."""


def _product(first: int, second: int) -> Formula:
    """A matrix product [..., m, k] x [..., k, n] (or vectors in place of either) of the two arguments at these places.

    Each number of the first is multiplied with n of the second.
    """

    def count(arguments: Sequence[Any], _: Any) -> int:
        a, b = arguments[first], arguments[second]
        return 2 * a.numel() * (b.shape[-1] if b.dim() > 1 else 1)

    return count


def _convolution(arguments: Sequence[Any], output: Any) -> int:
    x, weight, transposed = arguments[0], arguments[1], arguments[6]
    return _convolved(x.shape, weight.shape, output.shape, transposed)


def _convolved(x: Sequence[int], weight: Sequence[int], output: Sequence[int], transposed: bool) -> int:
    """Weights [out, in / groups, *kernel] ([in, out / groups, *kernel] if transposed) meet every place of the output
    (of the input) once."""
    return 2 * x[0] * math.prod((x if transposed else output)[2:]) * math.prod(weight)


def _convolution_backward(arguments: Sequence[Any], _: Any) -> int:
    """Where they are wanted: the gradient of the input, as many as forward, and that of the weights.

    For the weights every channel is paired with every other, whether they are of one group or not: so they were
    counted on the first rows of boards, which are compared with later ones.
    """
    gradient, x, weight, transposed, wanted = (arguments[place] for place in (0, 1, 2, 7, 10))
    of_input = _convolved(x.shape, weight.shape, gradient.shape, transposed)
    places = (x if transposed else gradient).shape[2:]
    of_weight = 2 * x.shape[0] * x.shape[1] * gradient.shape[1] * math.prod(places) * math.prod(weight.shape[2:])
    return wanted[0] * of_input + wanted[1] * of_weight


def _attention(arguments: Sequence[Any], _: Any) -> int:
    """softmax(Q K') V with Q [..., s, d], K [..., t, d] and V [..., t, e]: two matrix products."""
    query, key, value = arguments[:3]
    return _attended(query, key, value)


def _attention_backward(arguments: Sequence[Any], _: Any) -> int:
    """Four matrix products, each as large as one of the two forward: what is computed again by a fused kernel to save
    memory is not counted."""
    return 2 * _attended(*arguments[1:4])


def _attended(query: Tensor, key: Tensor, value: Tensor) -> int:
    return 2 * query.numel() * key.shape[-2] + 2 * query.numel() // query.shape[-1] * key.shape[-2] * value.shape[-1]


_ATTENTION = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
"""Ends of the names of fused attention; each has a backward of its own."""

_NAMED: Mapping[str, Formula] = {
    "mm": _product(0, 1),
    "bmm": _product(0, 1),
    "addmm": _product(1, 2),
    "_addmm_activation": _product(1, 2),
    "baddbmm": _product(1, 2),
    "addbmm": _product(1, 2),
    "mv": _product(0, 1),
    "addmv": _product(1, 2),
    "dot": _product(0, 1),
    "linear": lambda arguments, _: 2 * arguments[0].numel() * arguments[1].shape[0],
    "convolution": _convolution,
    "_convolution": _convolution,
    "convolution_overrideable": _convolution,
    "convolution_backward": _convolution_backward,
    **{f"_scaled_dot_product_{name}": _attention for name in _ATTENTION},
    **{f"_scaled_dot_product_{name}_backward": _attention_backward for name in _ATTENTION},
}

_FORMULAS: Mapping[Any, Formula] = {
    getattr(torch.ops.aten, name): formula for name, formula in _NAMED.items() if hasattr(torch.ops.aten, name)
}


class TooMany(Exception):
    """More was computed than `Operations` was to count."""


class Operations(TorchDispatchMode):
    """Counts, in `total`, the floating-point operations of whatever runs inside of it, and in `calls` its kernels.

    Raises TooMany within, as soon as there are more than `most` operations or `most_calls` kernels.
    """

    def __init__(self, most: float = math.inf, most_calls: float = math.inf) -> None:
        super().__init__()
        self.total, self.calls = 0, 0
        self.most, self.most_calls = most, most_calls

    @property
    def too_many(self) -> bool:
        """Whether there were more than were to be counted."""
        return self.total > self.most or self.calls > self.most_calls

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False, as nothing is compiled here: where it is true, torch imports its compiler to leave this class out."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        formula = _FORMULAS.get(func.overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs or {})
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs or {})
        self.calls += 1
        if formula is not None:
            self.total += formula(args, output)
        if self.too_many:
            raise TooMany
        return output
