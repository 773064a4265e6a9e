"""For tests of your protocols and methods: hypothesis strategies, a reference interpreter, tiny data sets.

    from hypothesis import given, strategies as st
    from harness import testing
    from harness.method.registry import build_method, task_for
    from harness.evaluation.rollout import step_through

    @given(testing.protocols(testing.STREAM_KINDS, max_ways=4), st.integers(0, 99))
    def test_my_method_answers_every_step(protocol, seed):
        episodes = testing.tiny_episodes(protocol, seed=seed)
        method = build_method(MyMethod, task_for(MyMethod, protocol, episodes.x.shape[2:]), {}, seed)
        assert step_through(method, episodes)[0].isfinite().all()

Only the strategies need hypothesis (it comes with the `test` extra), and only episodes and tasks need torch.
"""

from __future__ import annotations

from harness.testing.reference import (
    Event,
    reference_counts,
    reference_events,
    reference_tally,
    reference_timeline,
)
from harness.testing.strategies import STREAM_KINDS, class_tables, episodes, episodes_of, protocols, tasks
from harness.testing.tiny import tiny_dataset, tiny_episodes

__all__ = [
    "STREAM_KINDS",
    "Event",
    "class_tables",
    "episodes",
    "episodes_of",
    "protocols",
    "reference_counts",
    "reference_events",
    "reference_tally",
    "reference_timeline",
    "tasks",
    "tiny_dataset",
    "tiny_episodes",
]
