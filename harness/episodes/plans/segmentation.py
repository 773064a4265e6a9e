"""Plans of segmentation with distractors: a stream of a target class (number 0) and a distractor (number 1)."""

from __future__ import annotations

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import EpisodePlan
from harness.episodes.plans.stream import streamed
from harness.protocol.models import SegmentationDistractors
from harness.util import philox


def plan(
    protocol: SegmentationDistractors, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray
) -> EpisodePlan:
    """Both classes in random order; masks one step late."""
    shape = protocol.episode
    return streamed(table, key, episodes, 1 + shape.distractor, shape.presentations, delay=1)
