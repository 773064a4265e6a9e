"""Scoring a method on numbered episodes of a split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from harness.episodes import EpisodeSource
from harness.method import Method
from harness.rollout import answered
from harness.score import StreamScores, joined, score_stream
from harness.spec import StreamProtocol

BATCH = 100
"""Episodes scored at once (fewer where fewer are asked for). A last batch is filled up to the same size, so
that its kernels see the same shapes and an episode's answers do not depend on how many follow it."""

EVALUATION_SEED = 0
"""Test and validation episodes are fixed by the protocol: the same for every method and seed of training."""


def evaluate(
    method: Method,
    source: EpisodeSource,
    protocol: StreamProtocol,
    split: str,
    episodes: int,
    progress: Callable[[int], None] | None = None,
) -> StreamScores:
    """Scores of the first `episodes` episodes of a split, in evaluation mode; the mode is put back afterwards."""
    parts = []
    size = min(BATCH, episodes)
    was_training = method.training
    method.eval()
    try:
        with torch.set_grad_enabled(method.learns_by_gradient):
            for first in range(0, episodes, size):
                wanted = np.arange(first, min(first + size, episodes))
                numbers = np.resize(wanted, size)
                batch = source.episodes(protocol, split, EVALUATION_SEED, numbers)
                scores = score_stream(answered(method, batch), batch.plan)
                parts.append(scores.first(len(wanted)))
                if progress:
                    progress(len(wanted))
    finally:
        method.train(was_training)
    return joined(parts)
