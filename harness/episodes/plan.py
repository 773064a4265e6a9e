"""Plans: a batch of episodes as indices and flags, no pixels.

Episode i of split s under seed r is a pure function of (protocol digest, s, r, i): whatever the batch it is
asked for in, whatever was asked for before, on any machine. Each kind has a module in `harness/episodes/plans/`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes import fixed
from harness.episodes.episode_plan import (
    AUGMENT,
    NULL,
    PHASES,
    QUERY,
    SINGLE,
    STREAM,
    SUPPORT,
    EpisodePlan,
)
from harness.episodes.plans import PLANS
from harness.protocol.models import AnyProtocol
from harness.util import philox

__all__ = [
    "AUGMENT",
    "NULL",
    "PHASES",
    "QUERY",
    "SINGLE",
    "STREAM",
    "SUPPORT",
    "EpisodePlan",
    "plan_episodes",
    "plan_key",
]


def plan_key(protocol: AnyProtocol, split: str, seed: int) -> philox.Key:
    """The key of all random bits of (protocol digest, split, seed)."""
    return philox.key_of(protocol.digest, split, seed)


def plan_episodes(
    protocol: AnyProtocol, table: ClassTable, split: str, seed: int, episodes: Sequence[int] | np.ndarray
) -> EpisodePlan:
    """The plan of the numbered episodes (any numbers, any order) of one split under one seed.

    Test episodes that a file fixes are the same under every seed. Raises UserError where the split cannot hold such an
    episode.
    """
    numbers = np.asarray(episodes, np.int64)
    if split == "test" and protocol.episode_file is not None:
        return fixed.plan(protocol, table, numbers)
    return PLANS[protocol.kind](protocol, table, split, plan_key(protocol, split, seed), numbers)
