"""Training episodes planned ahead: consecutive batches many at once, since a call to plan has a fixed cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.dataset import ClassTable
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.protocol.models import AnyProtocol

STEPS = 2**15
"""Steps planned at once at most, unless one batch has more; bounds memory to a few megabytes."""


@dataclass(frozen=True)
class _Block:
    """Plans of consecutive episodes from number `first` on."""

    table: ClassTable
    digest: str
    seed: int
    first: int
    plan: EpisodePlan

    @property
    def stop(self) -> int:
        return self.first + len(self.plan.episode)

    def is_of(self, protocol: AnyProtocol, table: ClassTable, seed: int) -> bool:
        return self.table is table and self.digest == protocol.digest and self.seed == seed


class PlansAhead:
    """`plan_episodes` for calls that mostly follow one another: the same plans, for less.

    A batch that begins where the last ended is planned together with those after it, twice as many each time, so that
    what is planned in vain is never more than what was planned for use. Only of training episodes: those of other
    splits may come to an end.
    """

    def __init__(self) -> None:
        self._block: _Block | None = None

    def plan(
        self, protocol: AnyProtocol, table: ClassTable, split: str, seed: int, episodes: Sequence[int] | np.ndarray
    ) -> EpisodePlan:
        """The plan of the numbered episodes, as `plan_episodes` gives it."""
        numbers = np.asarray(episodes, np.int64)
        if split != "train" or not len(numbers) or (numbers != np.arange(numbers[0], numbers[0] + len(numbers))).any():
            return plan_episodes(protocol, table, split, seed, numbers)
        first, stop = int(numbers[0]), int(numbers[-1]) + 1
        block, count = self._block, len(numbers)
        if block and block.is_of(protocol, table, seed) and block.first <= first <= block.stop:
            if stop <= block.stop:
                return block.plan.part(slice(first - block.first, stop - block.first))
            count = max(count, min(2 * len(block.plan.episode), STEPS // block.plan.steps))
        plan = plan_episodes(protocol, table, split, seed, np.arange(first, first + count))
        self._block = _Block(table, protocol.digest, seed, first, plan)
        return plan.part(slice(len(numbers)))
