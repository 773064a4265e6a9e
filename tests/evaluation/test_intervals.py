"""Intervals of means over seeds and episodes: coverage, known values, bounds near 0 and 100 %, few episodes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.evaluation.intervals import bounds, by_episode, of_records, of_values, paired, unpaired
from harness.evaluation.score import mean

RNG = np.random.default_rng(0)


def test_with_one_seed_and_many_episodes_it_is_that_of_the_record() -> None:
    values = RNG.beta(2, 1, (1, 4000))
    found = of_values(values)
    recorded, half, episodes = mean(values[0])
    low, high = bounds([found])[0]
    assert found.mean == pytest.approx(recorded)
    assert [recorded - low, high - recorded] == pytest.approx([half, half], rel=0.02)
    again = of_records(np.array([[recorded]]), np.array([[half]]), [episodes])
    assert bounds(again)[0] == pytest.approx((low, high), abs=1e-3)


def test_few_episodes_have_students_interval() -> None:
    first, second = RNG.random((1, 5)), RNG.random((1, 5))
    change = (first - second)[0]
    expected = stats.t.interval(0.95, 4, change.mean(), stats.sem(change))
    found, half = paired(first, second)
    assert (found - half, found + half) == pytest.approx((100 * expected[0], 100 * expected[1]))


def test_right_or_wrong_answers_have_the_interval_of_clopper_and_pearson() -> None:
    values = np.zeros((1, 2000))
    values[0, :1990] = 1
    expected = stats.binomtest(1990, 2000).proportion_ci(method="exact")
    assert bounds([of_values(values)])[0] == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.01)


@pytest.mark.parametrize(("value", "expected"), [(1.0, (69.15, 100.0)), (0.0, (0.0, 30.85))])
def test_nothing_but_right_or_wrong_answers_leave_room_for_others(value: float, expected: tuple[float, float]) -> None:
    assert bounds([of_values(np.full((1, 10), value))])[0] == pytest.approx(expected, abs=0.01)


def test_what_is_the_same_in_every_episode_has_no_width() -> None:
    assert bounds([of_values(np.full((2, 100), 0.2))])[0] == pytest.approx((20, 20))
    change = paired(np.full((1, 9), 0.2), np.full((1, 9), 0.5))
    assert change == pytest.approx((-30, 0))
    assert change.excludes_zero


def test_a_single_episode_in_common_has_a_difference_and_no_interval() -> None:
    nan = np.nan
    change = paired(np.array([[nan, 0.75, 1.0]]), np.array([[0.5, 0.5, nan]]))
    assert (change.mean, change.half, change.excludes_zero, change.text()) == (25, None, False, "+25.00")
    none = paired(np.array([[nan, 0.5]]), np.array([[0.5, nan]]))
    assert np.isnan(none.mean)
    assert none.half is None
    assert not none.excludes_zero


def test_bounds_never_leave_0_to_100() -> None:
    for seeds, episodes in ((1, 2), (2, 2), (3, 50)):
        for _ in range(50):
            low, high = bounds([of_values(RNG.beta(0.2, 3, (seeds, episodes)).round(1))])[0]
            assert 0 <= low <= high <= 100


def test_seeds_that_differ_widen_it_and_seeds_that_agree_do_not() -> None:
    episodes = RNG.random(500)
    noise = 0.05 * RNG.standard_normal((3, 500))
    agree = np.clip(episodes + noise, 0, 1)
    differ = np.clip(agree * np.array([[0.5], [0.75], [1.0]]), 0, 1)
    assert of_values(agree).half == pytest.approx(of_values(agree[:1]).half, rel=0.1)
    assert of_values(differ).half > 5 * of_values(agree).half
    assert of_values(differ).half == pytest.approx(
        stats.t.ppf(0.975, 2) * 100 * differ.mean(1).std(ddof=1) / np.sqrt(3), rel=0.1
    )


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_it_holds_the_true_mean_in_95_of_100_cases(seeds: int) -> None:
    """Seeds and episodes drawn anew each time, for one seed around its own mean."""
    hits, rounds = 0, 1500
    for _ in range(rounds):
        of_seed = 0.05 * RNG.standard_normal((seeds, 1)) * (seeds > 1)
        values = 0.5 + of_seed + 0.1 * RNG.standard_normal((1, 30)) + 0.1 * RNG.standard_normal((seeds, 30))
        found = of_values(values)
        hits += abs(found.mean - 50) <= found.half
    assert 0.93 <= hits / rounds <= 0.99


def test_pairing_finds_what_the_intervals_alone_do_not() -> None:
    episodes = RNG.random((1, 400))
    better = np.clip(episodes + 0.01 + 0.02 * RNG.standard_normal((1, 400)), 0, 1)
    change, half = paired(better, episodes)
    assert change > half
    change, half = unpaired(of_values(better), of_values(episodes))
    assert change < half


def test_seeds_of_two_methods_need_not_be_as_many_and_gaps_are_left_out() -> None:
    first, second = RNG.random((3, 100)), RNG.random((1, 100))
    first[0, 7] = second[0, 8] = np.nan
    rest = np.delete(np.arange(100), [7, 8])
    assert paired(first, second) == pytest.approx(paired(first[:, rest], second[:, rest]))


def test_records_of_several_seeds_take_the_errors_of_their_episodes_to_be_the_same() -> None:
    (with_seeds,) = of_records(np.array([[50.0, 60.0]]), np.array([[1.0, 1.0]]), [100])
    students = stats.t.ppf(0.975, 99) / 1.96, stats.t.ppf(0.975, 1) * 5
    assert with_seeds.half == pytest.approx(np.hypot(*students))


@pytest.mark.parametrize("seeds", [1, 2, 3, 7, 8, 9, 40])
def test_many_entries_at_once_have_the_very_bits_of_each_alone(seeds: int) -> None:
    drawn = np.random.default_rng(seeds)
    means, halves = drawn.uniform(0, 100, (50, seeds)), drawn.uniform(0, 2, (50, seeds))
    means[:2], halves[2] = [[0.0], [100.0]], 0.0
    episodes = drawn.integers(2, 3000, 50).tolist()
    found = of_records(means, halves, episodes)
    alone = [of_records(means[[n]], halves[[n]], episodes[n : n + 1])[0] for n in range(50)]
    assert found == alone
    assert [each.mean for each in found] == [float(np.mean(each.tolist())) for each in means]
    assert bounds(found) == [bounds([each])[0] for each in found]


@pytest.mark.parametrize("seeds", [2, 3, 6, 7])
@pytest.mark.parametrize("value", [0.2, 0.7, 1 / 3])
def test_equal_numbers_do_not_differ_for_being_averaged_over_seeds(seeds: int, value: float) -> None:
    several, one = np.full((seeds, 50), value), np.full((1, 50), value)
    assert not by_episode(several, one).any()
    change = paired(several, one)
    assert change.mean == 0
    assert change.half == pytest.approx(0, abs=1e-12)
    assert not change.excludes_zero
    assert not unpaired(of_values(several), of_values(one)).excludes_zero
    assert paired(several + 1e-6, one).excludes_zero
