"""Which sample a label belongs to that is revealed d steps late: pending samples, held in the state until then.

Everything that is held of a sample (an image, features) is a tensor [B, S, ...] of S samples in the order they came.
"""

from __future__ import annotations

import torch
from torch import Tensor


def oldest(pending: Tensor) -> Tensor:
    """The sample [B, 1, ...] that the next label is of, out of a queue of d pending samples [B, d, ...]."""
    return pending[:, :1]


def push(pending: Tensor, sample: Tensor) -> Tensor:
    """The queue [B, d, ...] after a step that showed `sample` [B, 1, ...]: the oldest is dropped."""
    return torch.cat([pending[:, 1:], sample], 1)


def pair(pending: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """The samples [B, S, ...] that the labels of S steps are of, and the queue after these steps.

    `pending` [B, d, ...] is the queue before them, `shown` [B, S, ...] the samples that they show. What a queue holds
    at the beginning of a stream is a placeholder, whose label is null.
    """
    line, steps = torch.cat([pending, shown], 1), shown.shape[1]
    return line[:, :steps], line[:, steps:]


def pair_labels(pending: Tensor, shown: Tensor, labels: Tensor, delay: int) -> tuple[Tensor, Tensor, Tensor]:
    """The samples [B, N, ...] that are now labelled, their labels [B, N], and the queue [B, m, ...] after these steps.

    For a queue without placeholders: it begins empty and holds the samples of the newest m <= delay steps. Before each
    step one of `labels` [B, S] is revealed, then one of `shown` [B, S, ...] seen; or there is one label and nothing is
    shown. A label that is revealed before `delay` samples were shown is of none of them.
    """
    line = torch.cat([pending, shown], 1)
    early = min(labels.shape[1], delay - pending.shape[1])
    number = labels.shape[1] - early
    return line[:, :number], labels[:, early:], line[:, number:]


def labelled_by_step(steps: int, delay: int, device: torch.device) -> Tensor:
    """Which of a stream's samples are labelled by which of its steps, bool [S, max(0, S - d)]."""
    now = torch.arange(steps, device=device)
    return now[: max(0, steps - delay)] + delay <= now.unsqueeze(-1)
