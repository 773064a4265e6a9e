"""Plans of kinds with queries, with masks and of single images: what they are made of, and that chance is fair."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.dataset import ClassTable
from harness.episodes.plan import QUERY, STREAM, SUPPORT, EpisodePlan, plan_episodes
from harness.testing import class_tables
from harness.util.errors import UserError
from tests.helpers.plans import SEEDS, TRAIN, Case, cases, dependence, many, of_kind, surprise, together

QUERIED = ("continual", "n_way_k_shot")
WITH_QUERIES = {
    "continual": of_kind("continual", subtasks=3, shots=2, queries=2),
    "n_way_k_shot": of_kind("n_way_k_shot", ways=3, shots=2, queries=2),
}
MASKED = of_kind("segmentation_distractors", presentations=2)
EPISODES = 20_000


def shape_of(protocol: Any) -> tuple[int, int, int]:
    """(classes, shots, queries) of a kind with queries."""
    shape = protocol.episode
    return (shape.subtasks if protocol.kind == "continual" else shape.ways), shape.shots, shape.queries


# Queries.


@given(cases(QUERIED))
def test_every_class_is_shown_shots_times_and_then_asked_queries_times(case: Case) -> None:
    found = case.plan()
    ways, shots, queries = shape_of(case.protocol)
    first = ways * shots
    assert (found.phase[:first] == (STREAM if case.protocol.kind == "continual" else SUPPORT)).all()
    assert (found.phase[first:] == QUERY).all()
    for targets in found.target.tolist():
        assert Counter(targets[:first]) == dict.fromkeys(range(ways), shots)
        assert Counter(targets[first:]) == dict.fromkeys(range(ways), queries)


@given(cases(QUERIED))
def test_no_query_was_shown_before(case: Case) -> None:
    found = case.plan()
    rotations = case.table.rotations[np.take_along_axis(found.classes, found.target, axis=1)]
    for images, turned in zip(found.image.tolist(), rotations.tolist(), strict=True):
        looks = list(zip(images, turned, strict=True))
        assert not set(looks[: found.first_query]) & set(looks[found.first_query :])


@given(cases(["continual"]))
def test_in_continual_learning_each_class_has_one_block_and_never_comes_back(case: Case) -> None:
    shape, found = case.protocol.episode, case.plan()
    for targets in found.target[:, : found.first_query].tolist():
        blocks = [(number, len(list(run))) for number, run in itertools.groupby(targets)]
        assert sorted(blocks) == [(number, shape.shots) for number in range(shape.subtasks)]


def arrangements(targets: np.ndarray) -> tuple[set[tuple[int, ...]], float]:
    """The orders that occur, and how far they are from equally frequent."""
    seen = Counter(map(tuple, targets.tolist()))
    return set(seen), surprise(np.array(list(seen.values())), len(targets) / len(seen), len(seen) - 1)


@pytest.mark.parametrize("kind", QUERIED)
def test_the_order_of_queries_is_uniform_and_tells_nothing_of_what_came_before(kind: str) -> None:
    found = many(WITH_QUERIES[kind], EPISODES)
    first = found.first_query
    orders, surprising = arrangements(found.target[:, first:])
    assert orders == set(itertools.permutations([0, 0, 1, 1, 2, 2]))
    assert abs(surprising) < 4
    for queried, shown in itertools.product((first, found.steps - 1), (0, first - 1)):
        counts = together(found.target[:, queried], 3, found.target[:, shown], 3)
        assert dependence(counts) < 4.5, f"query {queried} goes with step {shown}"


def test_the_order_of_subtasks_is_uniform() -> None:
    orders, surprising = arrangements(many(WITH_QUERIES["continual"], EPISODES).target[:, :6:2])
    assert orders == set(itertools.permutations(range(3)))
    assert abs(surprising) < 4


def test_support_pairs_come_in_any_order() -> None:
    orders, surprising = arrangements(many(WITH_QUERIES["n_way_k_shot"], EPISODES).target[:, :6])
    assert orders == set(itertools.permutations([0, 0, 1, 1, 2, 2]))
    assert abs(surprising) < 4


@pytest.mark.parametrize("kind", QUERIED)
def test_classes_images_and_both_orders_are_drawn_independently_of_each_other(kind: str) -> None:
    found = many(WITH_QUERIES[kind], EPISODES)
    first = found.first_query
    draws = {
        "class": (found.classes[:, 0] // 16, 4),
        "order": (found.target[:, 0], 3),
        "order of queries": (found.target[:, first], 3),
        "image": (found.image[:, 0] % 600 // 150, 4),
        "image of a query": (found.image[:, first] % 600 // 150, 4),
    }
    for (one, (a, many_a)), (other, (b, many_b)) in itertools.combinations(draws.items(), 2):
        assert dependence(together(a, many_a, b, many_b)) < 4.5, f"{one} and {other} go together"
    for name in ("image", "image of a query"):
        assert surprise(np.bincount(draws[name][0]), EPISODES / 4, 3) < 4.5, f"{name} is not drawn evenly"


# Masks.


@given(cases(["segmentation_distractors"]))
def test_target_and_distractor_are_two_classes_shown_equally_often(case: Case) -> None:
    shape, found = case.protocol.episode, case.plan()
    roles = 1 + shape.distractor
    assert found.classes.shape[1] == roles
    assert roles == 1 or (found.classes[:, 0] != found.classes[:, 1]).all()
    for targets in found.target.tolist():
        assert Counter(targets) == dict.fromkeys(range(roles), shape.presentations)


def test_which_class_is_the_target_and_when_it_comes_is_drawn_evenly() -> None:
    found = many(MASKED, EPISODES)
    target, distractor = found.classes.T
    assert abs((target < distractor).mean() - 0.5) < 4 * 0.5 / np.sqrt(EPISODES)
    for role in (target, distractor):
        assert abs(surprise(np.bincount(role, minlength=64), EPISODES / 64, 63)) < 4.5
    orders, surprising = arrangements(found.target)
    assert orders == set(itertools.permutations([0, 0, 1, 1]))
    assert abs(surprising) < 4
    assert dependence(together(target // 16, 4, found.target[:, 0], 2)) < 4.5


# Single images.


def passes(table: ClassTable, seed: int, passes: range) -> list[EpisodePlan]:
    """Whole passes through the training split."""
    total = int(table.offsets[-1])
    protocol = of_kind("supervised")
    return [plan_episodes(protocol, table, "train", seed, np.arange(total) + turn * total) for turn in passes]


@given(class_tables(), SEEDS, st.integers(0, 2**30))
def test_every_pass_shows_every_training_image_once_in_another_order(table: ClassTable, seed: int, turn: int) -> None:
    rows = np.repeat(np.arange(len(table.names)), table.sizes)
    everything = sorted(zip(table.members.tolist(), rows.tolist(), strict=True))
    found = passes(table, seed, range(turn, turn + 2))
    for each in found:
        assert sorted(zip(each.image[:, 0].tolist(), each.target[:, 0].tolist(), strict=True)) == everything
    assert not np.array_equal(found[0].image, found[1].image)
    assert not np.array_equal(found[0].image, passes(table, seed + 1, range(turn, turn + 1))[0].image)


@given(class_tables(), SEEDS)
def test_every_test_image_comes_once_in_its_own_order_and_no_more_episodes_exist(table: ClassTable, seed: int) -> None:
    protocol, total = of_kind("supervised"), len(table.members)
    found = plan_episodes(protocol, table, "test", seed, range(total))
    assert found.image[:, 0].tolist() == table.members.tolist()
    assert found.target[:, 0].tolist() == np.repeat(np.arange(len(table.names)), table.sizes).tolist()
    with pytest.raises(UserError, match=f"the test split has {total} images; episode {total} does not exist"):
        plan_episodes(protocol, table, "test", seed, [0, total, total + 9])


@given(cases(["supervised"]))
def test_a_supervised_class_number_is_the_row_of_the_class_table(case: Case) -> None:
    found, ways = case.plan(), len(case.table.names)
    assert (found.classes == np.arange(ways)).all()
    assert found.steps == 1
    assert (found.feedback == -1).all()


def test_training_images_come_at_any_place_of_a_pass() -> None:
    small = ClassTable(("a", "b"), np.array([0, 3, 6], np.int64), np.arange(6, dtype=np.int32), np.zeros(2, np.int8))
    orders = np.stack([each.image[:, 0] for each in passes(small, 0, range(1500))])
    counts = np.stack([np.bincount(place, minlength=6) for place in orders.T])
    assert abs(surprise(counts, 250, 25)) < 4.5


def test_the_training_table_is_large_enough_for_the_bounds_above() -> None:
    assert len(TRAIN.names) == 64
    assert set(TRAIN.sizes.tolist()) == {600}
