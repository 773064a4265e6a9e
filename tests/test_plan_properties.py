"""Plans keep the protocol's promises, for random protocols, against the reference interpreter."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import bits, plan
from harness.data.cards import CARDS
from harness.data.dataset import SPLITS, ClassTable
from harness.data.load import load_dataset
from harness.data.sources import split_lines
from harness.errors import UserError
from harness.plan import NULL, EpisodePlan, plan_episodes
from harness.spec import PROTOCOL, StreamProtocol, digest
from harness.testing import card_table, class_tables, protocols, reference_counts, reference_events, tiny_dataset

NUMBERS = st.lists(st.integers(0, 2**40), min_size=1, max_size=6)
SEEDS = st.integers(0, 1000)
PER_EPISODE = ("episode", "classes", "image", "target", "shot", "revealed")


def stream(
    ways: int, presentations: int, delay: int = 1, order: str = "balanced", dataset: str = "cifar_fs"
) -> StreamProtocol:
    """A stream protocol; delay 1 is kind online_few_shot."""
    episode: dict[str, object] = {"ways": ways, "presentations": presentations, "order": order}
    if delay > 1:
        episode["label_delay"] = delay
    kind = "delayed_label" if delay > 1 else "online_few_shot"
    scoring = {"shots": [0], "test_episodes": 10}
    return PROTOCOL.validate_python(
        {"kind": kind, "title": "x", "dataset": dataset, "episode": episode, "scoring": scoring}
    )


def planned_with_key(protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]) -> EpisodePlan:
    """A plan whose random bits do not depend on the protocol: `plan_episodes` with a fixed key.

    The digest, and with it the key, differs between protocols; here two protocols can be compared.
    """
    return plan._stream(protocol, table, "test", bits.key_of("fixed", seed), np.array(numbers))


def same(one: EpisodePlan, other: EpisodePlan) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(EpisodePlan)
    )


# Label timing.


@given(protocols(), class_tables(), SEEDS, NUMBERS)
def test_visible_labels_at_t_are_those_of_steps_up_to_t_minus_d(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    for t in range(found.steps):
        visible = {i for i in found.reveals[: t + 1].tolist() if i != NULL}
        assert visible == {i for i in range(found.steps) if i + protocol.label_delay <= t}


@given(protocols(), class_tables(), SEEDS, NUMBERS)
def test_feedback_is_what_the_reference_reveals(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    for targets, feedback in zip(found.target.tolist(), found.feedback.tolist(), strict=True):
        events: list[tuple[str, int] | tuple[str, int, int]] = []
        for t, (source, label) in enumerate(zip(found.reveals.tolist(), feedback, strict=True)):
            assert (source == NULL) == (label == NULL)
            if source != NULL:
                events.append(("reveal", source, label))
            events.append(("show", t))
        assert events == list(reference_events(targets, protocol.label_delay))


@given(protocols(), class_tables(), SEEDS, NUMBERS)
def test_each_label_comes_at_most_once_in_order_with_its_true_value_after_its_item(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "train", seed, numbers)
    delivered = [(t, i) for t, i in enumerate(found.reveals.tolist()) if i != NULL]
    assert [i for _, i in delivered] == list(range(max(0, found.steps - protocol.label_delay)))
    for t, i in delivered:
        assert i < t
        assert (found.feedback[:, t] == found.target[:, i]).all()


@given(protocols(), class_tables(), SEEDS, st.integers(0, 3))
def test_nothing_is_revealed_when_the_delay_reaches_the_end(
    protocol: StreamProtocol, table: ClassTable, seed: int, beyond: int
) -> None:
    shape = protocol.episode
    late = stream(shape.ways, shape.presentations, max(2, protocol.steps + beyond), shape.order)
    found = plan_episodes(late, table, "test", seed, range(3))
    assert (found.feedback == NULL).all()
    assert (found.revealed == 0).all()


@given(protocols(), class_tables(), SEEDS, NUMBERS, st.data())
def test_changing_only_the_delay_changes_no_image_no_target_and_no_order(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int], data: st.DataObject
) -> None:
    shape = protocol.episode
    delay = data.draw(st.integers(1, protocol.steps + 2))
    other = stream(shape.ways, shape.presentations, delay, shape.order, protocol.dataset)
    one, two = (planned_with_key(each, table, seed, numbers) for each in (protocol, other))
    for field in dataclasses.fields(EpisodePlan):
        if field.name not in {"revealed", "reveals"}:
            assert np.array_equal(getattr(one, field.name), getattr(two, field.name)), field.name
    assert np.array_equal(one.reveals, two.reveals) == (
        min(delay, protocol.steps) == min(protocol.label_delay, protocol.steps)
    )


@given(protocols(), class_tables(), SEEDS, NUMBERS, st.data())
def test_truncation_keeps_the_first_events(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int], data: st.DataObject
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    steps = data.draw(st.integers(1, found.steps))
    short = dataclasses.replace(found, target=found.target[:, :steps], reveals=found.reveals[:steps])
    assert np.array_equal(short.feedback, found.feedback[:, :steps])
    for row, targets in enumerate(found.target.tolist()):
        first = list(reference_events(targets[:steps], protocol.label_delay))
        assert first == list(reference_events(targets, protocol.label_delay))[: len(first)]
        counts = reference_counts(targets[:steps], protocol.label_delay)
        assert counts == list(zip(found.shot[row, :steps], found.revealed[row, :steps], strict=True))


@given(protocols(), class_tables(), SEEDS, NUMBERS)
def test_shot_and_revealed_are_the_reference_counts(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    for targets, shot, revealed in zip(
        found.target.tolist(), found.shot.tolist(), found.revealed.tolist(), strict=True
    ):
        expected = reference_counts(targets, protocol.label_delay)
        assert list(zip(shot, revealed, strict=True)) == expected


# Composition of an episode.


@given(protocols(orders=["balanced"]), class_tables(), SEEDS, NUMBERS)
def test_balanced_order_shows_every_class_exactly_presentations_times(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    for targets in plan_episodes(protocol, table, "test", seed, numbers).target.tolist():
        assert Counter(targets) == dict.fromkeys(range(protocol.episode.ways), protocol.episode.presentations)


@given(protocols(), class_tables(), SEEDS, NUMBERS)
def test_every_image_belongs_to_the_class_shown_and_none_comes_twice(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    members = [table.members[a:b].tolist() for a, b in itertools.pairwise(table.offsets)]
    for classes, images, targets in zip(
        found.classes.tolist(), found.image.tolist(), found.target.tolist(), strict=True
    ):
        assert len(set(classes)) == protocol.episode.ways
        rows = [classes[target] for target in targets]
        assert all(image in members[row] for image, row in zip(images, rows, strict=True))
        # A turned class shares its image numbers with the upright one, but shows other pixels.
        looks = {(image, table.turns[row]) for image, row in zip(images, rows, strict=True)}
        assert len(looks) == found.steps


@given(protocols(), class_tables(classes=(5, 6), images=(5, 6)), SEEDS, NUMBERS)
def test_no_order_shows_a_class_more_often_than_it_has_images(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    found = plan_episodes(protocol, table, "test", seed, numbers)
    for classes, targets in zip(found.classes.tolist(), found.target.tolist(), strict=True):
        for target, times in Counter(targets).items():
            assert times <= table.sizes[classes[target]]


@pytest.mark.parametrize("order", ["balanced", "iid"])
def test_an_episode_that_the_split_cannot_hold_is_refused_with_the_numbers(order: str) -> None:
    table = card_table("objects", "test")
    few = dataclasses.replace(table, names=table.names[:3], offsets=table.offsets[:4], turns=table.turns[:3])
    with pytest.raises(UserError, match="4 classes in an episode, but the split has 3"):
        plan_episodes(stream(4, 2, order=order), few, "test", 0, [0])
    # One small class anywhere in the split is enough, whether or not an episode happens to draw it.
    offsets = np.concatenate([table.offsets[:-1], table.offsets[-2:-1] + 2])
    uneven = dataclasses.replace(table, offsets=offsets)
    for number in range(5):
        with pytest.raises(UserError, match="3 images of a class in an episode, but the class 'test class 19' has only 2"):
            plan_episodes(stream(2, 3, order=order), uneven, "test", 0, [number])


def shared(tables: dict[str, ClassTable]) -> list[tuple[str, str]]:
    """Pairs of splits that have an image in common."""
    images = {split: set(table.members.tolist()) for split, table in tables.items()}
    return [(a, b) for a, b in itertools.combinations(images, 2) if images[a] & images[b]]


def test_splits_of_the_tiny_data_set_share_no_image() -> None:
    tables = tiny_dataset().tables
    assert set(tables) == set(SPLITS)
    assert not shared(tables)
    assert shared({**tables, "test": tables["train"]}) == [("train", "test")]


@pytest.mark.parametrize("name", ["cifar_fs", "omniglot_vinyals"])
def test_class_lists_of_the_splits_are_disjoint(name: str) -> None:
    lists = {split: split_lines(f"{name}_{split}") for split in ("train", "val", "test")}
    for split, lines in lists.items():
        assert len(set(lines)) == len(lines) > 0, split
    for one, other in itertools.combinations(lists, 2):
        # Rotations of one Omniglot character ('alphabet/character/rot090') may not be split up either.
        assert not {upright(line) for line in lists[one]} & {upright(line) for line in lists[other]}


def upright(line: str) -> str:
    """The class without its rotation."""
    return line.rpartition("/rot")[0] or line


@pytest.mark.real_data
@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.disjoint and not card.stand_in])
def test_splits_of_real_data_share_no_image(name: str, data_root: Path, cache: Path) -> None:
    tables = load_dataset(name, data_root, cache, download=False).tables
    assert not shared(tables)
    for split, table in tables.items():
        assert len(table.names) == CARDS[name].classes[split]
        assert table.sizes.min() == CARDS[name].images_per_class[split]


# Purity.


@given(protocols(), class_tables(), SEEDS, NUMBERS, st.randoms(use_true_random=False))
def test_an_episode_is_the_same_in_any_batch_and_any_order(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int], shuffler: random.Random
) -> None:
    whole = plan_episodes(protocol, table, "test", seed, numbers)
    order = list(range(len(numbers)))
    shuffler.shuffle(order)
    again = plan_episodes(protocol, table, "test", seed, [numbers[k] for k in order])
    for name in PER_EPISODE:
        assert np.array_equal(getattr(whole, name)[order], getattr(again, name)), name
        for row, number in enumerate(numbers):
            alone = plan_episodes(protocol, table, "test", seed, [number])
            assert np.array_equal(getattr(whole, name)[row], getattr(alone, name)[0]), name


def test_an_episode_depends_on_protocol_split_seed_and_number() -> None:
    table = card_table("cifar_fs", "train")
    base = plan_episodes(stream(5, 10), table, "train", 0, [0])
    others = [
        plan_episodes(stream(5, 10, delay=2), table, "train", 0, [0]),
        plan_episodes(stream(5, 10), table, "test", 0, [0]),
        plan_episodes(stream(5, 10), table, "train", 1, [0]),
        plan_episodes(stream(5, 10), table, "train", 0, [1]),
        plan_episodes(stream(5, 10), table, "train", 0, [2**32]),
    ]
    assert not any(np.array_equal(base.image, other.image) for other in others)


@given(protocols(), class_tables(), SEEDS, NUMBERS)
def test_planning_neither_reads_nor_moves_global_random_state(
    protocol: StreamProtocol, table: ClassTable, seed: int, numbers: list[int]
) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    one = plan_episodes(protocol, table, "test", seed, numbers)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index]
    random.seed(2)
    np.random.seed(2)
    assert same(one, plan_episodes(protocol, table, "test", seed, numbers))


def test_plans_do_not_depend_on_hash_randomisation() -> None:
    script = (
        "import hashlib, json\n"
        "from harness.plan import plan_episodes\n"
        "from harness.spec import PROTOCOL, digest\n"
        "from harness.testing import card_table\n"
        "p = PROTOCOL.validate_python({'kind': 'delayed_label', 'title': 'x', 'dataset': 'cifar_fs',\n"
        "    'episode': {'ways': 5, 'presentations': 10, 'label_delay': 5},\n"
        "    'scoring': {'shots': [0], 'test_episodes': 10}})\n"
        "found = plan_episodes(p, card_table('cifar_fs', 'test'), 'test', 0, range(20))\n"
        "print(digest(p), hashlib.sha256(found.image.tobytes() + found.target.tobytes()).hexdigest())\n"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("0", "12345")
    ]
    protocol = stream(5, 10, delay=5)
    found = plan_episodes(protocol, card_table("cifar_fs", "test"), "test", 0, range(20))
    content = hashlib.sha256(found.image.tobytes() + found.target.tobytes()).hexdigest()
    assert answers == [[digest(protocol), content]] * 2


# Chance: fixed episodes, bounds of at least four standard deviations.


def many(protocol: StreamProtocol, episodes: int) -> EpisodePlan:
    """The first training episodes under seed 0, on 64 classes of 600 images."""
    return plan_episodes(protocol, card_table("cifar_fs", "train"), "train", 0, range(episodes))


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
    for order in ("balanced", "iid"):
        found = many(stream(ways, 3, order=order), episodes)
        share = np.stack([(found.target == number).mean(axis=0) for number in range(ways)])
        assert np.abs(share - 1 / ways).max() < 4.5 * np.sqrt(0.2 * 0.8 / episodes)


@pytest.mark.parametrize("order", ["balanced", "iid"])
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
        counts = np.bincount(a * many_b + b, minlength=many_a * many_b).reshape(many_a, many_b)
        expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / episodes
        freedom = (many_a - 1) * (many_b - 1)
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert statistic - freedom < 4.5 * np.sqrt(2 * freedom), f"{one} and {other} go together"


def test_balanced_order_is_uniform_over_arrangements() -> None:
    episodes = 30_000
    found = many(stream(3, 2), episodes)
    seen = Counter(map(tuple, found.target.tolist()))
    assert set(seen) == set(itertools.permutations([0, 0, 1, 1, 2, 2]))
    expected = episodes / len(seen)
    statistic = sum((count - expected) ** 2 / expected for count in seen.values())
    assert abs(statistic - (len(seen) - 1)) < 4 * np.sqrt(2 * (len(seen) - 1))


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
    ways, showings, episodes = 3, 2, 20_000
    right: defaultdict[int, list[bool]] = defaultdict(list)
    # permutations() of a multiset repeats each arrangement equally often; the shares stay as they are.
    for targets in itertools.permutations([c for c in range(ways) for _ in range(showings)]):
        for shot, hit in copy_last_by_shot(targets, delay):
            right[shot].append(hit)
    expected = {shot: Fraction(sum(hits), len(hits)) for shot, hits in right.items()}
    steps = ways * showings
    # A step whose d-th predecessor exists meets its own class there with probability (p - 1) / (T - 1).
    overall = Fraction(showings - 1, steps - 1) * Fraction(max(0, steps - delay), steps)
    assert sum(expected.values()) / len(expected) == overall

    found = many(stream(ways, showings, delay), episodes)
    earned = found.feedback == found.target
    for shot, share in expected.items():
        at = found.shot == shot
        spread = np.sqrt(float(share) * (1 - float(share)) / at.sum())
        # Steps of one episode are not independent: allow for all of a shot's steps moving together.
        assert abs(earned[at].mean() - float(share)) <= 4 * spread * np.sqrt(ways)


def test_every_card_can_be_planned() -> None:
    for name in CARDS:
        for split in SPLITS:
            found = plan_episodes(stream(5, 10, dataset=name), card_table(name, split), split, 0, range(3))
            assert found.image.shape == (3, 50)
