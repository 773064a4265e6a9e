"""Plans of supervised learning: every image an episode of one step."""

from __future__ import annotations

import functools

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import NULL, ORDER, STREAM, EpisodePlan
from harness.protocol.models import Supervised
from harness.util import philox
from harness.util.errors import UserError


def plan(protocol: Supervised, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray) -> EpisodePlan:
    """Training images in a new order each time through the split; those of other splits once, in their own order."""
    total = int(table.offsets[-1])
    turn, at = np.divmod(episodes, total)
    if split == "train":
        order = np.empty_like(at)
        for each in np.unique(turn):
            order[turn == each] = _epoch(key, int(each), total)[at[turn == each]]
        at = order
    elif turn.any():
        raise UserError(f"the {split} split has {total} images; episode {int(episodes[turn != 0][0])} does not exist")
    row = np.searchsorted(table.offsets, at, side="right") - 1
    nothing = np.zeros((len(episodes), 1), np.int64)
    return EpisodePlan(
        episode=episodes,
        classes=np.broadcast_to(np.arange(len(table.names)), (len(episodes), len(table.names))),
        image=table.members[at].astype(np.int64)[:, None],
        target=row[:, None],
        shot=nothing,
        revealed=nothing,
        feedback_step=np.array([NULL]),
        phase=np.array([STREAM], np.int8),
        scored=np.array([True]),
    )


@functools.lru_cache(maxsize=4)
def _epoch(key: philox.Key, turn: int, total: int) -> np.ndarray:
    """The order of all images in one pass through the training split. Kept, since batches ask for it in turn."""
    return philox.shuffled(philox.words(key, np.array([turn]), ORDER, total))[0]
