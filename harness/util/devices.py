"""Names of devices."""

from __future__ import annotations

import torch


def name_of(device: torch.device) -> str:
    """What a GPU is called ('NVIDIA H200'); of other devices, their kind ('cpu')."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
