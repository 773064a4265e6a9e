"""The order in which a learner goes through a support set, pass after pass."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from harness.util import philox


def passes_over(pairs: int, passes: int) -> list[list[int]]:
    """The numbers of the pairs in each pass: first as they came, then in an order drawn for the pass.

    The orders are the same in all episodes, whose pairs come in random order already.
    """
    words = philox.words(philox.key_of("passes over support pairs"), np.arange(passes), pairs, pairs)
    return [list(range(pairs)), *philox.shuffled(words)[1:].tolist()]


def batches_over(pairs: int, size: int, batches: int) -> list[list[int]]:
    """The numbers of the pairs in each batch: passes over all pairs, laid end to end and cut into batches of `size`.

    A support set of fewer pairs than that is a batch of its own.
    """
    size = min(size, pairs)
    line = [pair for order in passes_over(pairs, -(-size * batches // pairs)) for pair in order]
    return [line[first : first + size] for first in range(0, size * batches, size)]


def on_device(batches: list[list[int]], device: torch.device) -> tuple[Tensor, ...]:
    """Batches of one size as index tensors [size]; copied to the device once, since they never change."""
    return _placed(tuple(map(tuple, batches)), device)


@cache
def _placed(batches: tuple[tuple[int, ...], ...], device: torch.device) -> tuple[Tensor, ...]:
    return torch.tensor(batches, device=device).unbind()
