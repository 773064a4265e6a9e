"""Gradients and losses of all sizes as the input of a net."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_sign(x: Tensor, p: float = 10.0) -> Tensor:
    """Two numbers [..., 2] for each of x [...]: its size and its sign (Andrychowicz et al. 2016, appendix A).

    (log|x| / p, sign(x)) where |x| >= exp(-p), else (-1, exp(p) x): whatever the size of x, neither is far above 1.
    """
    size = x.abs()
    large = size >= math.exp(-p)
    # The bound keeps the slope of the branch that is not taken finite.
    logs = size.clamp(min=math.exp(-p)).log() / p
    return torch.stack([torch.where(large, logs, -1.0), torch.where(large, x.sign(), math.exp(p) * x)], -1)
