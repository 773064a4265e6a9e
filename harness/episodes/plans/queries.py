"""What the plans of kinds with queries share: queries of each class after a stream or a support set."""

from __future__ import annotations

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import QUERY, QUERY_ORDER, EpisodePlan
from harness.episodes.plans.drawing import drawn_classes, drawn_images
from harness.util import philox


def then_queries(
    table: ClassTable,
    key: philox.Key,
    episodes: np.ndarray,
    ways: int,
    shots: int,
    queries: int,
    target: np.ndarray,
    place: np.ndarray,
    feedback_step: np.ndarray,
    phase: int,
) -> EpisodePlan:
    """Steps with `target` and `place` [B, ways * shots], then `queries` of each class in random order, which are
    images that were not shown before. Only queries are scored."""
    classes = drawn_classes(table, key, episodes, ways, shots + queries)
    # The order of queries must tell nothing about their classes.
    drawn = philox.shuffled(philox.words(key, episodes, QUERY_ORDER, ways * queries))
    target = np.concatenate([target, drawn // queries], axis=1)
    shot = np.concatenate([place, np.full_like(drawn, shots)], axis=1)
    nth = np.concatenate([place, shots + drawn % queries], axis=1)
    is_query = np.repeat([False, True], [ways * shots, ways * queries])
    return EpisodePlan(
        episode=episodes,
        classes=classes,
        image=drawn_images(table, key, episodes, classes, shots + queries, target, nth),
        target=target,
        shot=shot,
        revealed=shot.copy(),
        feedback_step=feedback_step,
        phase=np.where(is_query, QUERY, phase).astype(np.int8),
        scored=is_query,
    )
