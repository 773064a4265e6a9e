"""Durations and seeds in words."""

from __future__ import annotations

import pytest

from harness.util.errors import UserError, all_of
from harness.util.quantities import about, clock, counted, duration, in_seconds, seed_numbers


def test_measured_times() -> None:
    assert [clock(each) for each in (-3, 0, 61, 3599, 3600, 9000)] == [
        "0:00 min",
        "0:00 min",
        "1:01 min",
        "59:59 min",
        "1:00 h",
        "2:30 h",
    ]


def test_expected_times_are_rounded() -> None:
    assert [about(each) for each in (0, 0.4, 42.3, 89, 90, 5340, 5400, 9000)] == [
        "1 s",
        "1 s",
        "42 s",
        "89 s",
        "2 min",
        "89 min",
        "1 h 30 min",
        "2 h 30 min",
    ]


def test_numbers_of_things() -> None:
    assert [counted(each, "thread") for each in (0, 1, 2)] == ["0 threads", "1 thread", "2 threads"]
    assert [counted(each, "class", "classes") for each in (1, 2)] == ["1 class", "2 classes"]
    assert [all_of(["a", "b", "c"][:each]) for each in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_a_seed_that_is_named_twice_is_one() -> None:
    assert seed_numbers("0,0,3,1-3", "--seeds") == [0, 3, 1, 2]


@pytest.mark.parametrize("text", ["4-2", "0,4-2", "4-2,0"])
def test_seeds_in_the_wrong_order_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="where 4-2 names no seed; write the smaller one first"):
        seed_numbers(text, "--seeds")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5s"), (90.0, "90s"), (1036800.0, "1036800s"), (1 / 3, "0.333333333s")],
)
def test_seconds_are_written_as_a_duration_is_read(seconds: float, text: str) -> None:
    assert in_seconds(seconds) == text
    assert duration(text, "time") == pytest.approx(seconds)
