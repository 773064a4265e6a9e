"""Plans made ahead are those made alone, whatever is asked for in whatever order."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from harness.episodes import ahead
from harness.episodes.ahead import PlansAhead
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.protocol.models import PROTOCOL
from harness.testing import tiny_dataset
from harness.util.errors import UserError

TABLE = tiny_dataset("objects", classes=7, images=6).tables["train"]


def protocol_of(ways: int = 3) -> Any:
    return PROTOCOL.validate_python(
        {
            "kind": "online_few_shot",
            "title": "x",
            "dataset": "objects",
            "episode": {"ways": ways, "presentations": 4},
            "scoring": {"shots": [1], "test_episodes": 10},
        }
    )


def assert_same(one: EpisodePlan, other: EpisodePlan) -> None:
    for field in dataclasses.fields(EpisodePlan):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many episodes each call from here on plans."""
    sizes: list[int] = []

    def planned(protocol: Any, table: Any, split: str, seed: int, numbers: np.ndarray) -> EpisodePlan:
        sizes.append(len(numbers))
        return plan_episodes(protocol, table, split, seed, numbers)

    monkeypatch.setattr(ahead, "plan_episodes", planned)
    return sizes


def test_whatever_the_order_of_calls_the_plans_are_those_made_alone() -> None:
    plans, protocols = PlansAhead(), [protocol_of(), protocol_of(2)]
    batches = [range(4), range(4, 8), range(8, 12), range(10, 30), range(30, 31), [7, 3], range(2, 5), range(5, 9)]
    for protocol, seed in ((protocols[0], 0), (protocols[1], 0), (protocols[0], 1)):
        for numbers in batches:
            for _ in range(2):  # asked for again
                found = plans.plan(protocol, TABLE, "train", seed, numbers)
                assert_same(found, plan_episodes(protocol, TABLE, "train", seed, numbers))


def test_batches_in_sequence_are_planned_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "STEPS", 12 * 40)
    sizes, plans = counted(monkeypatch), PlansAhead()
    for first in range(0, 200, 5):
        plans.plan(protocol_of(), TABLE, "train", 0, range(first, first + 5))
    # Twice as many each time, up to so many steps; what was planned and never used is at most one call's.
    assert sizes == [5, 10, 20, 40, 40, 40, 40, 40]


def test_a_change_of_what_is_asked_for_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, plans = counted(monkeypatch), PlansAhead()
    for protocol, seed in ((protocol_of(), 0), (protocol_of(2), 0), (protocol_of(2), 1)):
        plans.plan(protocol, TABLE, "train", seed, range(4))
    plans.plan(protocol_of(2), dataclasses.replace(TABLE), "train", 1, range(4))
    plans.plan(protocol_of(2), TABLE, "train", 1, [3, 1])
    assert sizes == [4, 4, 4, 4, 2]


def test_writing_into_a_plan_does_not_reach_a_later_call() -> None:
    plans = PlansAhead()
    plans.plan(protocol_of(), TABLE, "train", 0, range(4)).image[:] = -1
    assert_same(
        plans.plan(protocol_of(), TABLE, "train", 0, range(4)),
        plan_episodes(protocol_of(), TABLE, "train", 0, range(4)),
    )


def test_a_split_that_ends_is_not_planned_beyond_its_end() -> None:
    card = tiny_dataset("objects_supervised", classes=3, images=4)
    protocol = PROTOCOL.validate_python(
        {"kind": "supervised", "title": "x", "dataset": "objects_supervised", "episode": {}, "scoring": {}}
    )
    plans = PlansAhead()
    for first in range(0, 12, 4):
        plans.plan(protocol, card.tables["test"], "test", 0, range(first, first + 4))
    with pytest.raises(UserError, match="does not exist"):
        plans.plan(protocol, card.tables["test"], "test", 0, range(12, 16))
