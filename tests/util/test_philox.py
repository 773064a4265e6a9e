"""The random bits are Philox-4x32-10, and what is made of them is evenly distributed."""

from __future__ import annotations

import itertools
from collections import Counter
from math import perm

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.util import philox
from tests.helpers.commands import within_seconds

ONES = 0xFFFFFFFF
# Known-answer vectors of the Random123 distribution for philox4x32 with ten rounds: counter, key, output.
KNOWN_ANSWERS = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "digits of pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}
KEY = philox.key_of("tests of bits")


def chi_square_z(counts: np.ndarray) -> float:
    """How many standard deviations the chi-square statistic of equally likely cells lies above its mean."""
    expected = counts.sum() / counts.size
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = counts.size - 1
    return float((statistic - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN_ANSWERS.values(), ids=KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], output: tuple[int, ...]
) -> None:
    words = philox.philox(tuple(np.array([word]) for word in counter), key)
    assert tuple(int(word[0]) for word in words) == output


@given(st.lists(st.integers(0, 2**48), min_size=1, max_size=5), st.integers(0, 3), st.integers(1, 11))
def test_words_are_philox_at_the_counter_of_episode_purpose_and_block(
    episodes: list[int], purpose: int, count: int
) -> None:
    found = philox.words(KEY, np.array(episodes), purpose, count)
    for row, episode in zip(found.tolist(), episodes, strict=True):
        blocks = (
            philox.philox(tuple(map(np.asarray, (episode & ONES, episode >> 32, purpose, block))), KEY)
            for block in range(3)
        )
        assert row == [int(word) for word in itertools.chain(*blocks)][:count]


def test_keys_differ_by_every_part() -> None:
    keys = {philox.key_of(a, b) for a in ("x", "y", "train", "test") for b in range(50)}
    assert len(keys) == 200
    assert all(0 <= word < 2**32 for key in keys for word in key)


@given(st.integers(1, 5), st.data())
def test_distinct_draws_are_distinct_and_in_range(count: int, data: st.DataObject) -> None:
    limits = np.array(data.draw(st.lists(st.integers(count, 40), min_size=1, max_size=4)))
    seed = data.draw(st.integers(0, 1000))
    words = philox.words(philox.key_of(seed), np.arange(len(limits)), 0, count)
    picks = philox.distinct(words, limits)
    assert picks.shape == words.shape
    for row, limit in zip(picks.tolist(), limits.tolist(), strict=True):
        assert len(set(row)) == count
        assert all(0 <= pick < limit for pick in row)


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 1000))
def test_distinct_draws_are_those_of_taking_away_from_a_list(count: int, limit: int, seed: int) -> None:
    words = philox.words(philox.key_of(seed), np.arange(3), 0, count)
    for row, picks in zip(words.tolist(), philox.distinct(words, limit).tolist(), strict=True):
        left = list(range(limit))
        expected = [left.pop(word * len(left) >> 32) for word in row[:limit]]
        assert picks[: len(expected)] == expected


def test_every_ordered_choice_is_drawn_from_equally_many_words() -> None:
    # Exact: word pairs on a grid finer than the ranks hit each of the 4 x 3 ordered choices equally often.
    grid = (np.arange(12, dtype=np.uint64) << np.uint64(32)) // np.uint64(12) + np.uint64(1)
    pairs = np.array(list(itertools.product(grid, repeat=2)), np.uint64)
    counts = Counter(map(tuple, philox.distinct(pairs, 4).tolist()))
    assert counts == dict.fromkeys(itertools.permutations(range(4), 2), 12)


@pytest.mark.parametrize(("count", "limit"), [(5, 5), (40, 40), (40, 100), (40, 7), (129, 1000)])
def test_many_draws_are_those_of_few(count: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = philox.words(KEY, np.arange(6), 0, 2 * count).reshape(6, 2, count)
    limits = np.maximum(limit - np.arange(12).reshape(6, 2), 1)
    few = philox.distinct(bits, limits)
    monkeypatch.setattr(philox, "_FEW", 0)
    assert np.array_equal(philox.distinct(bits, limits), few)


def test_a_hundred_thousand_draws_take_no_squares() -> None:
    with within_seconds():
        picks = philox.distinct(philox.words(KEY, np.arange(1), 0, 100_000), 100_000)
    assert np.array_equal(np.sort(picks[0]), np.arange(100_000))


@pytest.mark.parametrize(("limit", "count"), [(5, 3), (6, 2), (4, 4)])
def test_distinct_draws_are_uniform_over_ordered_choices(limit: int, count: int) -> None:
    picks = philox.distinct(philox.words(KEY, np.arange(60_000), 0, count), limit)
    seen = Counter(map(tuple, picks.tolist()))
    assert len(seen) == perm(limit, count)
    assert abs(chi_square_z(np.array(list(seen.values())))) < 4


@given(st.integers(1, 60), st.integers(0, 1000))
def test_shuffled_is_a_permutation(steps: int, seed: int) -> None:
    order = philox.shuffled(philox.words(philox.key_of(seed), np.arange(4), 0, steps))
    assert (np.sort(order, axis=1) == np.arange(steps)).all()


def test_shuffled_is_a_permutation_of_more_than_65536_places() -> None:
    order = philox.shuffled(philox.words(KEY, np.arange(1), 0, 70_000))
    assert (np.sort(order[0]) == np.arange(70_000)).all()


def test_shuffled_breaks_ties_by_place() -> None:
    assert philox.shuffled(np.array([[7, 3, 7, 3]], np.uint64)).tolist() == [[1, 3, 0, 2]]


def test_shuffled_is_uniform_over_permutations() -> None:
    order = philox.shuffled(philox.words(KEY, np.arange(60_000), 1, 4))
    seen = Counter(map(tuple, order.tolist()))
    assert len(seen) == 24
    assert abs(chi_square_z(np.array(list(seen.values())))) < 4


@given(st.integers(1, 2**31), st.lists(st.integers(0, ONES), min_size=1, max_size=5))
def test_below_is_multiply_and_shift(limit: int, words: list[int]) -> None:
    assert philox.below(np.array(words, np.uint64), limit).tolist() == [word * limit >> 32 for word in words]
