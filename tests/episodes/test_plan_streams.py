"""Plans of streams: label timing by delay, the orders of classes, and what chance earns on them."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.cards import CARDS
from harness.data.dataset import ClassTable
from harness.episodes import plans
from harness.episodes.plan import NULL, EpisodePlan, plan_episodes
from harness.protocol.models import StreamProtocol
from harness.testing import STREAM_KINDS, class_tables, protocols, reference_counts, reference_events
from harness.util import philox
from tests.helpers.plans import NUMBERS, SEEDS, dependence, many, stream, surprise, together

STREAMS = protocols(STREAM_KINDS)


def planned_with_key(protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]) -> EpisodePlan:
    """A plan whose random bits do not depend on the protocol: `plan_episodes` with a fixed key.

    The digest, and with it the key, differs between protocols; here two protocols can be compared.
    """
    return plans.stream.plan(protocol, table, "test", philox.key_of("fixed", seed), np.array(numbers))


# Label timing.


@given(STREAMS, class_tables(), SEEDS, NUMBERS)
def test_visible_labels_at_t_are_those_of_steps_up_to_t_minus_d(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    for t in range(found.steps):
        visible = {i for i in found.feedback_step[: t + 1].tolist() if i != NULL}
        assert visible == {i for i in range(found.steps) if i + protocol.label_delay <= t}


@given(STREAMS, class_tables(), SEEDS, NUMBERS)
def test_each_label_comes_at_most_once_in_order_with_its_true_value_after_its_item(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "train", seed, numbers)
    delivered = [(t, i) for t, i in enumerate(found.feedback_step.tolist()) if i != NULL]
    assert [i for _, i in delivered] == list(range(max(0, found.steps - protocol.label_delay)))
    for t, i in delivered:
        assert i < t
        assert (found.feedback[:, t] == found.target[:, i]).all()


@given(STREAMS, class_tables(), SEEDS, st.integers(0, 3))
def test_nothing_is_revealed_when_the_delay_reaches_the_end(
    protocol: StreamProtocol, table: ClassTable, seed: int, beyond: int
) -> None:
    shape = protocol.episode
    late = stream(shape.ways, shape.presentations, max(2, protocol.steps + beyond), shape.order)
    found = plan_episodes(late, table, "test", seed, range(3))
    assert (found.feedback == NULL).all()
    assert (found.revealed == 0).all()


@given(STREAMS, class_tables(), SEEDS, NUMBERS, st.data())
def test_changing_only_the_delay_changes_no_image_no_target_and_no_order(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int], data: st.DataObject
) -> None:
    shape = protocol.episode
    delay = data.draw(st.integers(1, protocol.steps + 2))
    other = stream(shape.ways, shape.presentations, delay, shape.order, protocol.data_name)
    one, two = (planned_with_key(each, table, seed, numbers) for each in (protocol, other))
    for field in dataclasses.fields(EpisodePlan):
        if field.name not in {"revealed", "feedback_step"}:
            assert np.array_equal(getattr(one, field.name), getattr(two, field.name)), field.name
    assert np.array_equal(one.feedback_step, two.feedback_step) == (
        min(delay, protocol.steps) == min(protocol.label_delay, protocol.steps)
    )


@given(STREAMS, class_tables(), SEEDS, NUMBERS, st.data())
def test_truncation_keeps_the_first_events(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int], data: st.DataObject
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    steps = data.draw(st.integers(1, found.steps))
    short = dataclasses.replace(found, target=found.target[:, :steps], feedback_step=found.feedback_step[:steps])
    assert np.array_equal(short.feedback, found.feedback[:, :steps])
    for row, targets in enumerate(found.target.tolist()):
        first = list(reference_events(targets[:steps], protocol.label_delay))
        assert first == list(reference_events(targets, protocol.label_delay))[: len(first)]
        counts = reference_counts(targets[:steps], protocol.label_delay)
        assert counts == list(zip(found.shot[row, :steps], found.revealed[row, :steps], strict=True))


# Orders.


@given(protocols(STREAM_KINDS, orders=["balanced"]), class_tables(), SEEDS, NUMBERS)
def test_balanced_order_shows_every_class_exactly_presentations_times(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    for targets in plan_episodes(protocol, table, "test", seed, numbers).target.tolist():
        assert Counter(targets) == dict.fromkeys(range(protocol.episode.ways), protocol.episode.presentations)


@given(protocols(STREAM_KINDS, orders=["cyclic"]), class_tables(), SEEDS, NUMBERS)
def test_in_cyclic_order_classes_take_turns(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    ways = protocol.episode.ways
    for targets in plan_episodes(protocol, table, "test", seed, numbers).target.tolist():
        assert sorted(targets[:ways]) == list(range(ways))
        assert targets == targets[:ways] * protocol.episode.presentations


@given(STREAMS, class_tables(classes=(5, 6), images=(5, 6)), SEEDS, NUMBERS)
def test_no_order_shows_a_class_more_often_than_it_has_images(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    for classes, targets in zip(found.classes.tolist(), found.target.tolist(), strict=True):
        for target, times in Counter(targets).items():
            assert times <= table.sizes[classes[target]]


# Chance: fixed episodes, bounds of at least four standard deviations.


def test_class_numbers_carry_no_information_about_class_identity() -> None:
    episodes, ways, size = 20_000, 5, CARDS["cifar_fs"].classes["train"]
    classes = many(stream(ways, 1), episodes).classes
    # Every class stands behind every class number equally often.
    counts = np.stack([np.bincount(classes[:, number], minlength=size) for number in range(ways)])
    expected = episodes / size
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = ways * (size - 1)
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)
    # The mean class behind a class number is the mean class; the spread of uniform draws bounds the error.
    error = np.sqrt((size**2 - 1) / 12 / episodes)
    assert np.abs(classes.mean(axis=0) - (size - 1) / 2).max() < 4 * error
    # Class numbers rise with the class no more often than one order in 5! does.
    rising = (np.diff(classes, axis=1) > 0).all(axis=1).mean()
    chance = 1 / 120
    assert abs(rising - chance) < 4 * np.sqrt(chance * (1 - chance) / episodes)


def test_class_numbers_carry_no_information_about_time() -> None:
    episodes, ways = 20_000, 5
    for order in ("balanced", "iid", "cyclic"):
        found = many(stream(ways, 3, order=order), episodes)
        share = np.stack([(found.target == number).mean(axis=0) for number in range(ways)])
        assert np.abs(share - 1 / ways).max() < 4.5 * np.sqrt(0.2 * 0.8 / episodes)


@pytest.mark.parametrize("order", ["balanced", "iid", "cyclic"])
def test_classes_images_and_order_are_drawn_independently_of_each_other(order: str) -> None:
    episodes, ways = 20_000, 5
    found = many(stream(ways, 3, order=order), episodes)
    # What each kind of draw decided first, in few enough values for a table of two of them.
    draws = {
        "class": (found.classes[:, 0] // 16, 4),
        "order": (found.target[:, 0], ways),
        "image": (found.image[:, 0] % 600 // 150, 4),
    }
    for (one, (a, many_a)), (other, (b, many_b)) in itertools.combinations(draws.items(), 2):
        assert dependence(together(a, many_a, b, many_b)) < 4.5, f"{one} and {other} go together"


def test_balanced_order_is_uniform_over_arrangements() -> None:
    episodes = 30_000
    found = many(stream(3, 2), episodes)
    seen = Counter(map(tuple, found.target.tolist()))
    assert set(seen) == set(itertools.permutations([0, 0, 1, 1, 2, 2]))
    expected = episodes / len(seen)
    statistic = sum((count - expected) ** 2 / expected for count in seen.values())
    assert abs(statistic - (len(seen) - 1)) < 4 * np.sqrt(2 * (len(seen) - 1))


def test_cyclic_order_is_uniform_over_orders_of_the_classes() -> None:
    episodes = 20_000
    found = many(stream(3, 2, order="cyclic"), episodes)
    seen = Counter(map(tuple, found.target[:, :3].tolist()))
    assert set(seen) == set(itertools.permutations(range(3)))
    assert abs(surprise(np.array(list(seen.values())), episodes / 6, 5)) < 4


def test_iid_order_draws_each_class_independently() -> None:
    # 600 images a class never run out in 8 steps, so all 2**8 sequences are equally likely.
    episodes = 50_000
    found = many(stream(2, 4, order="iid"), episodes)
    counts = np.bincount(found.target @ (1 << np.arange(8)), minlength=256)
    expected = episodes / 256
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 4 * np.sqrt(2 * 255)


def copy_last_by_shot(targets: tuple[int, ...], delay: int) -> list[tuple[int, bool]]:
    """(shot, right) of each step for a learner that repeats the newest revealed label; none yet is wrong."""
    newest, answers, shown = NULL, [], Counter[int]()
    for event in reference_events(targets, delay):
        if event[0] == "reveal":
            newest = event[2]
        else:
            target = targets[event[1]]
            answers.append((shown[target], newest == target))
            shown[target] += 1
    return answers


@pytest.mark.parametrize("delay", [1, 2, 3, 5, 6])
def test_copying_the_last_label_earns_exactly_what_counting_arrangements_says(delay: int) -> None:
    ways, presentations, episodes = 3, 2, 20_000
    right: defaultdict[int, list[bool]] = defaultdict(list)
    # permutations() of a multiset repeats each arrangement equally often; the shares stay as they are.
    for targets in itertools.permutations([c for c in range(ways) for _ in range(presentations)]):
        for shot, hit in copy_last_by_shot(targets, delay):
            right[shot].append(hit)
    expected = {shot: Fraction(sum(hits), len(hits)) for shot, hits in right.items()}
    steps = ways * presentations
    # A step whose d-th predecessor exists meets its own class there with probability (p - 1) / (T - 1).
    overall = Fraction(presentations - 1, steps - 1) * Fraction(max(0, steps - delay), steps)
    assert sum(expected.values()) / len(expected) == overall

    found = many(stream(ways, presentations, delay), episodes)
    earned = found.feedback == found.target
    for shot, share in expected.items():
        at = found.shot == shot
        spread = np.sqrt(float(share) * (1 - float(share)) / at.sum())
        # Steps of one episode are not independent: allow for all of a shot's steps moving together.
        assert abs(earned[at].mean() - float(share)) <= 4 * spread * np.sqrt(ways)
