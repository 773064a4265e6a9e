"""Features of a split's images, computed once, for stages that train only what comes after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from harness.episodes.ahead import PlansAhead
from harness.episodes.source import Episodes, EpisodeSource
from harness.method.interface import Method
from harness.protocol.models import AnyProtocol
from harness.training.interface import Features
from harness.util.device_copy import packed_to_device

_BATCH = 500


class FrozenFeatures:
    """Features of every image of one split, as they are when this is made; `method` is the one they are part of.

    It gives the same episodes as the source it was made from, with features [T, B, D] in place of images.
    Augmentation has no place here: an image has one feature vector.
    """

    def __init__(self, method: Method, features: Features, source: EpisodeSource, split: str) -> None:
        table = source.dataset.tables[split]
        rotations = np.repeat(table.rotations, table.sizes)
        parts = []
        was_training = method.training
        method.eval()
        with torch.no_grad():
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
