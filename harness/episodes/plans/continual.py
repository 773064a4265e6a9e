"""Plans of continual learning: one class after another, then queries of all."""

from __future__ import annotations

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import ORDER, STREAM, EpisodePlan
from harness.episodes.plans.queries import then_queries
from harness.protocol.models import Continual
from harness.util import philox


def plan(protocol: Continual, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray) -> EpisodePlan:
    """`shots` steps of each class, whose label is revealed one step later; the last is due at the queries."""
    ways, shots, queries = protocol.episode.subtasks, protocol.episode.shots, protocol.episode.queries
    # Class numbers come in random order too: else a learner would know the next one before it is shown.
    order = philox.shuffled(philox.words(key, episodes, ORDER, ways))
    stream = np.repeat(order, shots, axis=1)
    place = np.broadcast_to(np.tile(np.arange(shots), ways), stream.shape)
    steps = ways * shots
    feedback_step = np.concatenate([np.arange(steps) - 1, np.full(ways * queries, steps - 1)])
    return then_queries(table, key, episodes, ways, shots, queries, stream, place, feedback_step, STREAM)
