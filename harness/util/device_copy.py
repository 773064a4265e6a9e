"""Small arrays on their way to a device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as a tensor on a device; on a CPU over the same memory, where the array is contiguous.

    To a GPU it goes by pinned memory, so that the host does not wait for what the GPU is still busy with.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
