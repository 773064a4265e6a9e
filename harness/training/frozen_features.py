"""Features of a split's images, computed once: for stages that train only what comes after them, and for scoring.

Those of a net that methods share are kept in the cache where they take long (minutes of a CPU for a deep net), so that
each look at validation episodes, a training that goes on, and all methods over the same net need not wait for them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.dataset import Dataset
from harness.episodes.ahead import PlansAhead
from harness.episodes.plan import plan_episodes
from harness.episodes.source import Episodes, EpisodeSource
from harness.evaluation.evaluate import EVALUATION_SEED, Source
from harness.method.interface import Method
from harness.protocol.models import AnyProtocol
from harness.training.feature_cache import FeatureCache
from harness.training.feature_keys import arithmetic_of, code_of, key_of, probe_of
from harness.training.interface import Features, training_hooks
from harness.util.arithmetic import arithmetic
from harness.util.device_copy import packed_to_device
from harness.util.precision import Precision
from harness.util.progress import track
from harness.util.tensor_files import content_of

_BATCH = 500

SECONDS_WORTH_KEEPING = 60.0
"""Features that take less to compute are not kept in the cache."""

VERSION = 1
"""Raised when the same settings come to give other features."""


class FrozenFeatures:
    """Features of every image of one split, as they are when this is made; `method` is the one they are part of.

    They are computed in the given precision, and on a CPU are what the net makes of the same images in any other batch
    of more than four. It gives the same episodes as the source it was made from, with features [T, B, D] in place of
    images. Augmentation has no place here: an image has one feature vector, `rows` [N, D].
    """

    def __init__(
        self,
        method: Method,
        features: Features,
        source: EpisodeSource,
        split: str,
        precision: Precision = "fp32",
        cache: FeatureCache | None = None,
    ) -> None:
        table = source.dataset.tables[split]
        was_training = method.training
        method.eval()
        with torch.no_grad(), arithmetic(precision, source.device):
            # Only of what is no more than a net can it be told what it is a function of.
            if cache is None or features.shared is None or features.net is not features.shared:
                self.rows = _computed(features, source, split)
            else:
                self.rows = _cached(cache, features, features.shared, source, split, precision)
        method.train(was_training)
        # Same classes and sizes, hence the same plans; an image number becomes its place in the table.
        self._table = replace(table, members=np.arange(len(table.members), dtype=np.int32))
        self._split, self._plans = split, PlansAhead()

    def episodes(
        self, protocol: AnyProtocol, seed: int, numbers: Sequence[int] | np.ndarray, part: slice | None = None
    ) -> Episodes:
        """The numbered episodes of the split under a seed, or `part` of them; x is [T, B, D]."""
        plan = self._plans.plan(protocol, self._table, self._split, seed, numbers)
        plan = plan if part is None else plan.part(part)
        device = self.rows.device
        arrays = [plan.image.T, plan.target.T, plan.scored, plan.classes]
        image, target, scored, class_rows = packed_to_device(arrays, device)
        scored = scored.bool()[:, None].expand_as(target)
        return Episodes(self.rows[image], target, scored, plan, class_rows=class_rows)


def _computed(features: Features, source: EpisodeSource, split: str) -> Tensor:
    """Features [N, D] of every image of a split."""
    table = source.dataset.tables[split]
    rotations = np.repeat(table.rotations, table.sizes)
    parts = []
    with track(f"features of {split} images", len(table.members), "images") as task:
        for first in range(0, len(table.members), _BATCH):
            # The last batch is filled up with images before it: kernels for a few images round otherwise.
            part = slice(max(0, min(first, len(table.members) - _BATCH)), first + _BATCH)
            found = features.net(source.pictures(table.members[part].astype(np.int64), rotations[part]))
            parts.append(found[first - part.start :])
            task.reach(min(first + _BATCH, len(table.members)))
    return torch.cat(parts)


def _cached(
    cache: FeatureCache, features: Features, shared: nn.Module, source: EpisodeSource, split: str, precision: Precision
) -> Tensor:
    """Features [N, D] of every image of a split, of the cache if it has them; put there if they took long."""
    table = source.dataset.tables[split]
    key = _key(shared, source, split, precision)
    if found := cache.find(key, lambda tensors: [*tensors] == ["rows"] and len(tensors["rows"]) == len(table.members)):
        return found[0]["rows"].to(source.device)
    began = time.monotonic()
    rows = _computed(features, source, split)
    seconds = time.monotonic() - began
    if seconds >= SECONDS_WORTH_KEEPING and cache.keep(key, {"rows": rows}, {"seconds": round(seconds, 1)}):
        cache.say(f"features of {split} images: kept in the cache ({key[:16]}), made in {seconds:.0f} s")
    return rows


def _key(shared: nn.Module, source: EpisodeSource, split: str, precision: Precision) -> str:
    """SHA-256 (hex) of everything that features of a split are a function of."""
    dataset = source.dataset
    table, card = dataset.tables[split], dataset.card
    images = {"members": table.members, "sizes": table.sizes, "rotations": table.rotations}
    return key_of(
        {
            "version": VERSION,
            "data": [dataset.fingerprint, card.mean, card.std],
            "images": content_of({name: torch.as_tensor(each) for name, each in images.items()}),
            "features": repr(shared),
            "code": code_of(shared),
            "weights": content_of(shared.state_dict()),
            "computes": probe_of(shared, card.image_shape, source.device),
            "arithmetic": arithmetic_of(source.device, precision),
        }
    )


class OnceSeen:
    """Episodes of one split for scoring, with features [T, B, D] in place of images."""

    def __init__(self, frozen: FrozenFeatures, source: EpisodeSource) -> None:
        self.dataset: Dataset = source.dataset
        self.device = source.device
        # By it the number of episodes scored at once is chosen. A GPU wants many; on a CPU they stay those of images,
        # so that all that follows features rounds alike.
        self.values = source.values if self.device.type == "cpu" else frozen.rows.shape[1]
        self._frozen = frozen

    def episodes(self, protocol: AnyProtocol, split: str, seed: int, numbers: Sequence[int] | np.ndarray) -> Episodes:
        """The numbered episodes of the split under a seed."""
        return self._frozen.episodes(protocol, seed, numbers)


def seen_once(
    method: Method,
    source: EpisodeSource,
    protocol: AnyProtocol,
    split: str,
    episodes: int,
    cache: FeatureCache | None = None,
) -> tuple[Method, Source]:
    """The method and the source to score it on, such that no image goes through its net twice.

    Where so many episodes show more images than the split has, and the method answers from features that can be
    computed once, that is the method over these, in fp32; otherwise both are handed back as they are. Scores are the
    same, on a CPU to the last bit.
    """
    features, table = training_hooks(method).memoryless_features(), source.dataset.tables[split]
    if features is None or features.rest is None or not features.whole:
        return method, source
    if protocol.masks or table.fixed is not None:  # episodes that a file fixes may have images of their own
        return method, source
    if plan_episodes(protocol, table, split, EVALUATION_SEED, [0]).steps * episodes <= len(table.members):
        return method, source
    return features.rest, OnceSeen(FrozenFeatures(method, features, source, split, cache=cache), source)
