"""Small arrays on their way to a device, and numbers on their way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on a device; on a CPU over the same memory, where the array is contiguous."""
    return tensor_to_device(torch.from_numpy(np.ascontiguousarray(array)), device)


def tensor_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; on a CPU the same one.

    To a GPU it goes by pinned memory, so that the host does not wait for what the GPU is still busy with.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def packed_to_device(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Arrays of integers as int64 tensors on a device, contiguous, by a single copy."""
    flat = to_device(np.concatenate([each.ravel() for each in arrays], dtype=np.int64, casting="unsafe"), device)
    parts = flat.split([each.size for each in arrays])
    return [part.view(each.shape) for part, each in zip(parts, arrays, strict=True)]


@dataclass(frozen=True)
class OnItsWay:
    """A number that a device computes, being copied to the host; `copied` is when a GPU has done so."""

    number: Tensor
    copied: torch.cuda.Event | None = None

    def read(self) -> float:
        """The number. Waits for what was sent to the device before the copy, and not for what was sent since."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.number.item()


def to_host(number: Tensor) -> OnItsWay:
    """Begins to copy a scalar to the host.

    `item()` at the time of reading would wait for everything that the GPU was given until then.
    """
    number = number.detach()
    if not number.is_cuda:
        return OnItsWay(number)
    host = torch.empty_like(number, device="cpu", pin_memory=True).copy_(number, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(number.device))
    return OnItsWay(host, copied)
