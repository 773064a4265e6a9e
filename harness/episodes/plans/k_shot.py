"""Plans of N-way K-shot episodes: support pairs, then queries."""

from __future__ import annotations

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import NULL, ORDER, SUPPORT, EpisodePlan
from harness.episodes.plans.drawing import earlier_presentations
from harness.episodes.plans.queries import then_queries
from harness.protocol.models import NWayKShot
from harness.util import philox


def plan(protocol: NWayKShot, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray) -> EpisodePlan:
    """`ways` x `shots` pairs in random order."""
    ways, shots, queries = protocol.episode.ways, protocol.episode.shots, protocol.episode.queries
    support = philox.shuffled(philox.words(key, episodes, ORDER, ways * shots)) // shots
    place, _ = earlier_presentations(support, ways)
    feedback_step = np.concatenate([np.arange(ways * shots), np.full(ways * queries, NULL)])
    return then_queries(table, key, episodes, ways, shots, queries, support, place, feedback_step, SUPPORT)
