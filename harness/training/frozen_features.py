"""Features of a split's images, computed once: for stages that train only what comes after them, and for scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from harness.data.dataset import Dataset
from harness.episodes.ahead import PlansAhead
from harness.episodes.plan import plan_episodes
from harness.episodes.source import Episodes, EpisodeSource
from harness.evaluation.evaluate import EVALUATION_SEED, Source
from harness.method.interface import Method
from harness.protocol.models import AnyProtocol
from harness.training.interface import Features, training_hooks
from harness.util.arithmetic import arithmetic
from harness.util.device_copy import packed_to_device
from harness.util.precision import Precision

_BATCH = 500

_OFTEN = 4
"""How often images are seen while episodes are scored, on average, from which on each goes through the net once."""


class FrozenFeatures:
    """Features of every image of one split, as they are when this is made; `method` is the one they are part of.

    They are computed in the given precision. It gives the same episodes as the source it was made from, with features
    [T, B, D] in place of images.
    Augmentation has no place here: an image has one feature vector.
    """

    def __init__(
        self, method: Method, features: Features, source: EpisodeSource, split: str, precision: Precision = "fp32"
    ) -> None:
        table = source.dataset.tables[split]
        rotations = np.repeat(table.rotations, table.sizes)
        parts = []
        was_training = method.training
        method.eval()
        with torch.no_grad(), arithmetic(precision, source.device):
            for first in range(0, len(table.members), _BATCH):
                part = slice(first, first + _BATCH)
                parts.append(features.net(source.pictures(table.members[part].astype(np.int64), rotations[part])))
        method.train(was_training)
        self._features = torch.cat(parts)
        # Same classes and sizes, hence the same plans; an image number becomes its place in the table.
        self._table = replace(table, members=np.arange(len(table.members), dtype=np.int32))
        self._split, self._plans = split, PlansAhead()

    def episodes(
        self, protocol: AnyProtocol, seed: int, numbers: Sequence[int] | np.ndarray, part: slice | None = None
    ) -> Episodes:
        """The numbered episodes of the split under a seed, or `part` of them; x is [T, B, D]."""
        plan = self._plans.plan(protocol, self._table, self._split, seed, numbers)
        plan = plan if part is None else plan.part(part)
        device = self._features.device
        arrays = [plan.image.T, plan.target.T, plan.scored, plan.classes]
        image, target, scored, class_rows = packed_to_device(arrays, device)
        scored = scored.bool()[:, None].expand_as(target)
        return Episodes(self._features[image], target, scored, plan, class_rows=class_rows)

    @property
    def width(self) -> int:
        """The number D of features of an image."""
        return self._features.shape[1]


class OnceSeen:
    """Episodes of one split for scoring, with features [T, B, D] in place of images."""

    def __init__(self, frozen: FrozenFeatures, source: EpisodeSource) -> None:
        self.dataset: Dataset = source.dataset
        self.device = source.device
        self.values = frozen.width
        self._frozen = frozen

    def episodes(self, protocol: AnyProtocol, split: str, seed: int, numbers: Sequence[int] | np.ndarray) -> Episodes:
        return self._frozen.episodes(protocol, seed, numbers)


def scored_once(
    method: Method, source: EpisodeSource, protocol: AnyProtocol, split: str, episodes: int
) -> tuple[Method, Source]:
    """What to score, and on what, so that a GPU computes the features of each image once, in fp32.

    That is the method over its frozen features, where it has such and its images are seen often among so many episodes;
    its answers are those on the images but for rounding. Otherwise, and on a CPU, whose scores are the same to the last
    bit however they are computed, both are handed back as they are.
    """
    if source.device.type == "cpu" or protocol.masks:
        return method, source
    features, table = training_hooks(method).memoryless_features(), source.dataset.tables[split]
    if features is None or features.rest is None:
        return method, source
    steps = plan_episodes(protocol, table, split, EVALUATION_SEED, [0]).steps
    if steps * episodes < _OFTEN * len(table.members):
        return method, source
    return features.rest, OnceSeen(FrozenFeatures(method, features, source, split), source)
