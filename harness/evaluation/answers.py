"""What a method may answer, and the plain copies of answers that are scored."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from harness.method.interface import MASKS, Method, State, Task
from harness.util.errors import AnswerError

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""The types of numbers that logits may have."""


def misshapen(task: Task, logits: object, x: Tensor, leading: int | None = None) -> str | None:
    """Why `logits` cannot be the answers to inputs x [..., C, H, W], or None if they can be.

    `leading` is the number of dimensions in front, where x may hold features [..., D] in place of images.

    Besides the shape it is the form: a subclass of torch.Tensor brings its own comparisons with it, and what is
    sparse, nested or without storage has no values that could be compared.
    """
    if not isinstance(logits, Tensor):
        return f"the answer is of type {type(logits).__name__}, not a tensor of floats"
    if type(logits) not in (Tensor, nn.Parameter):
        return (
            f"the answer is of type {type(logits).__name__}, a subclass of torch.Tensor; only plain tensors are "
            "scored (as_subclass(torch.Tensor) makes one)"
        )
    if logits.is_nested or logits.layout != torch.strided:
        form = "a nested" if logits.is_nested else f"a {str(logits.layout).removeprefix('torch.')}"
        return f"the answer is {form} tensor; only dense tensors are scored (as to_dense() makes one)"
    if logits.dtype not in FLOATS:
        allowed = ", ".join(str(each).removeprefix("torch.") for each in FLOATS)
        return f"the answer is {logits.dtype}, not a tensor of floats (of {allowed})"
    if logits.is_meta and not x.is_meta:
        return "the answer is a tensor on the device 'meta', which has no values"
    wanted = [
        *x.shape[: -3 if leading is None else leading],
        *((1, *x.shape[-2:]) if task.kind in MASKS else (task.ways,)),
    ]
    if list(logits.shape) != wanted:
        return f"the answer has shape {list(logits.shape)} instead of {wanted}"
    return None


def answered(method: Method, returned: object) -> tuple[Tensor, State]:
    """What `predict` returned, as logits and state; AnswerError if it is not two things."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        many = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise AnswerError(
            f"{type(method).__name__}.predict returns a {type(returned).__name__}{many}; it must return (logits, state)"
        )
    return returned[0], returned[1]


def well_formed(method: Method, what: str, logits: Tensor, x: Tensor, leading: int | None = None) -> Tensor:
    """The logits, if they can be answers to x (as `misshapen` has it); AnswerError if not."""
    problem = misshapen(method.task, logits, x, leading)
    if problem:
        raise AnswerError(f"{type(method).__name__}.{what}: {problem}, for inputs of shape {list(x.shape)}")
    return logits


def plain(logits: Tensor) -> np.ndarray:
    """A copy of an answer as a NumPy array, float32 (float64 where the answer is), which no tensor shares memory with.

    It is made as soon as the answer is given: whatever the method does to its tensor later is not scored. Widening
    half precision to float32 is exact, so that ties stay ties.
    """
    with torch._C.DisableTorchFunction():  # neither a mode nor a class of the method's has a hand in it
        precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
        return np.array(logits.detach().to("cpu", precision).resolve_conj().resolve_neg().numpy(), copy=True)
