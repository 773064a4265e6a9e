"""Nets whose normalisation is at something, so that leaving it out or mixing it up shows."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def unsettled(net: Net, seed: int = 5) -> Net:
    """The net with random running statistics, scales and shifts in every batch normalisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for each in net.modules():
            if isinstance(each, nn.BatchNorm2d):
                assert each.running_mean is not None
                assert each.running_var is not None
                nn.init.uniform_(each.running_mean, -0.3, 0.3)
                nn.init.uniform_(each.running_var, 0.5, 2)
                nn.init.uniform_(each.weight, 0.5, 1.5)
                nn.init.uniform_(each.bias, -0.5, 0.5)
    return net
