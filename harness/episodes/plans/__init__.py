"""How each kind of protocol draws its episodes: one module a kind (both streams are one), with a function `plan`."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.episode_plan import EpisodePlan
from harness.episodes.plans import continual, k_shot, segmentation, stream, supervised
from harness.protocol.base import Protocol as ProtocolModel
from harness.util import philox

P = TypeVar("P", bound=ProtocolModel, contravariant=True)


class Plan(Protocol[P]):
    """Draws the numbered episodes (int64 [B]) of one split; all that is random comes from `key`.

    An episode may not depend on the others of its batch. Raises UserError where the split cannot hold one.
    """

    def __call__(
        self, protocol: P, table: ClassTable, split: str, key: philox.Key, episodes: np.ndarray, /
    ) -> EpisodePlan: ...


PLANS: dict[str, Plan[Any]] = {
    "online_few_shot": stream.plan,
    "delayed_label": stream.plan,
    "continual": continual.plan,
    "segmentation_distractors": segmentation.plan,
    "n_way_k_shot": k_shot.plan,
    "supervised": supervised.plan,
}
"""Kind to what plans it."""
