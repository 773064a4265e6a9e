"""The episodes that a lint looks at."""

from __future__ import annotations

from collections.abc import Iterator

from harness.data.dataset import ClassTable
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.protocol.models import AnyProtocol

EPISODES, FEWEST = 400, 10
ANSWERS = 2**22
"""Episodes looked at: so many that learners give no more answers (numbers: steps times classes), but `FEWEST`."""


def planned(protocol: AnyProtocol, table: ClassTable, episodes: int | None = None) -> Iterator[EpisodePlan]:
    """The first test episodes, so many or as many as are usual, in batches whose answers fit into memory."""
    one = plan_episodes(protocol, table, "test", 0, [0])
    most = ANSWERS // (one.steps * one.classes.shape[1])
    count = episodes or max(FEWEST, min(EPISODES, most))
    if protocol.episode_file is not None:
        count = min(count, protocol.episode_file.count)
    size = max(1, min(count, most))
    for first in range(0, count, size):
        yield plan_episodes(protocol, table, "test", 0, range(first, min(first + size, count)))
