"""Plans keep the protocol's promises, for random protocols of all kinds, against the reference interpreter."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.cards import CARDS
from harness.data.dataset import SPLITS, ClassTable, card_table
from harness.data.open_dataset import load_dataset
from harness.data.sources import split_lines
from harness.episodes.plan import NULL, QUERY, SUPPORT, EpisodePlan, plan_episodes
from harness.testing import Event, reference_tally, reference_timeline, tiny_dataset
from harness.util.errors import UserError
from tests.helpers.plans import TRAIN, Case, cases, of_kind, stream

PER_EPISODE = ("episode", "classes", "image", "target", "shot", "revealed")
SMALL: dict[str, Any] = {
    "online_few_shot": of_kind("online_few_shot", ways=5, presentations=10),
    "delayed_label": of_kind("delayed_label", ways=5, presentations=10, label_delay=5),
    "continual": of_kind("continual", subtasks=4, shots=3, queries=2),
    "segmentation_distractors": of_kind("segmentation_distractors", presentations=9),
    "n_way_k_shot": of_kind("n_way_k_shot", ways=5, shots=1, queries=3),
    "supervised": of_kind("supervised"),
}
"""One protocol of each kind."""


def same(one: EpisodePlan, other: EpisodePlan) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(EpisodePlan)
    )


# Label timing.


def events_of(plan: EpisodePlan, row: int) -> list[Event]:
    """What one episode's plan says happens, as the reference interpreter says it."""
    events: list[Event] = []
    feedback = plan.feedback[row].tolist()
    for t, source in enumerate(plan.feedback_step.tolist()):
        assert (source == NULL) == (feedback[t] == NULL)
        if plan.phase[t] == SUPPORT:
            assert source == t
            events.append(("pair", t, feedback[t]))
            continue
        if plan.phase[t] == QUERY and t > plan.first_query:
            assert (source, feedback[t]) == (plan.feedback_step[t - 1], feedback[t - 1]), (
                "all queries follow the same step"
            )
        elif source != NULL:
            events.append(("reveal", source, feedback[t]))
        if plan.phase[t] == QUERY:
            if t == plan.first_query:
                events.append(("adapt",))
            events.append(("ask", t))
        else:
            events.append(("show", t))
    return events


@given(cases())
def test_a_plan_says_what_the_reference_says(case: Case) -> None:
    found = case.plan()
    for row, targets in enumerate(found.target.tolist()):
        assert events_of(found, row) == list(reference_timeline(case.protocol, targets))


@given(cases())
def test_shot_and_revealed_are_the_reference_tally(case: Case) -> None:
    found = case.plan()
    for targets, shot, revealed in zip(
        found.target.tolist(), found.shot.tolist(), found.revealed.tolist(), strict=True
    ):
        assert list(zip(shot, revealed, strict=True)) == reference_tally(case.protocol, targets)


@given(cases())
def test_phases_come_in_order_and_what_is_asked_is_what_is_scored(case: Case) -> None:
    found = case.plan()
    assert (np.diff(found.phase) >= 0).all()
    assert found.first_query == (found.phase < QUERY).sum()
    assert np.array_equal(found.answer_mask, found.phase > SUPPORT)
    # Where there are queries they alone are scored, else every step is.
    assert np.array_equal(found.scored, found.phase == QUERY if QUERY in found.phase else found.phase > SUPPORT)


# Composition of an episode.


@given(cases())
def test_every_image_belongs_to_the_class_shown_and_none_comes_twice(case: Case) -> None:
    found, table = case.plan(), case.table
    members = [table.members[a:b].tolist() for a, b in itertools.pairwise(table.offsets)]
    for classes, images, targets in zip(
        found.classes.tolist(), found.image.tolist(), found.target.tolist(), strict=True
    ):
        assert len(set(classes)) == len(classes)
        rows = [classes[target] for target in targets]
        assert all(image in members[row] for image, row in zip(images, rows, strict=True))
        # A turned class shares its image numbers with the upright one, but shows other pixels.
        looks = {(image, table.rotations[row]) for image, row in zip(images, rows, strict=True)}
        assert len(looks) == found.steps


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("online_few_shot", {"order": "balanced"}),
        ("online_few_shot", {"order": "iid"}),
        ("online_few_shot", {"order": "cyclic"}),
        ("continual", {}),
        ("n_way_k_shot", {}),
        ("segmentation_distractors", {}),
    ],
)
def test_an_episode_that_the_split_cannot_hold_is_refused_with_the_numbers(kind: str, shape: dict[str, Any]) -> None:
    def protocol(classes: int, images: int) -> Any:
        if kind == "online_few_shot":
            return of_kind(kind, ways=classes, presentations=images, **shape)
        if kind == "segmentation_distractors":
            return of_kind(kind, presentations=images)
        ways: dict[str, Any] = {"subtasks" if kind == "continual" else "ways": classes}
        return of_kind(kind, **ways, shots=1, queries=images - 1)

    table = card_table(CARDS["objects"], "test")
    few = dataclasses.replace(table, names=table.names[:1], offsets=table.offsets[:2], rotations=table.rotations[:1])
    with pytest.raises(UserError, match="2 classes in an episode, but the split has 1"):
        plan_episodes(protocol(2, 2), few, "test", 0, [0])
    # One small class anywhere in the split is enough, whether or not an episode happens to draw it.
    offsets = np.concatenate([table.offsets[:-1], table.offsets[-2:-1] + 2])
    uneven = dataclasses.replace(table, offsets=offsets)
    for number in range(5):
        with pytest.raises(UserError, match="3 images of a class in an episode, but the class 'class 19' has only 2"):
            plan_episodes(protocol(2, 3), uneven, "test", 0, [number])


def shared(tables: dict[str, ClassTable]) -> list[tuple[str, str]]:
    """Pairs of splits that have an image in common."""
    images = {split: set(table.members.tolist()) for split, table in tables.items()}
    return [(a, b) for a, b in itertools.combinations(images, 2) if images[a] & images[b]]


def test_splits_of_the_tiny_data_set_share_no_image() -> None:
    tables = tiny_dataset().tables
    assert set(tables) == set(SPLITS)
    assert not shared(tables)
    assert shared({**tables, "test": tables["train"]}) == [("train", "test")]


@pytest.mark.parametrize("name", ["cifar_fs", "omniglot_vinyals", "mini_imagenet", "fss1000"])
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


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.disjoint and not card.stand_in])
def test_splits_of_real_data_share_no_image(name: str, data_root: Path, cache: Path) -> None:
    try:
        tables = load_dataset(name, data_root, cache, download=False).tables
    except UserError as error:
        if "is missing" not in str(error):
            raise
        pytest.skip(f"{name} is not at hand")
    assert not shared(tables)
    for split, table in tables.items():
        assert len(table.names) == CARDS[name].classes[split]
        assert table.sizes.min() == CARDS[name].images_per_class[split]


# Purity.


@pytest.mark.slow
@given(cases(), st.randoms(use_true_random=False))
def test_an_episode_is_the_same_in_any_batch_and_any_order(case: Case, shuffler: random.Random) -> None:
    whole = case.plan()
    order = list(range(len(case.numbers)))
    shuffler.shuffle(order)
    again = case.plan([case.numbers[k] for k in order])
    for name in PER_EPISODE:
        assert np.array_equal(getattr(whole, name)[order], getattr(again, name)), name
        for row, number in enumerate(case.numbers):
            alone = case.plan([number])
            assert np.array_equal(getattr(whole, name)[row], getattr(alone, name)[0]), name


def test_an_episode_depends_on_protocol_split_seed_and_number() -> None:
    for protocol in SMALL.values():
        base = plan_episodes(protocol, TRAIN, "train", 0, [0])
        others = [
            plan_episodes(protocol, TRAIN, "test", 0, [0]),
            plan_episodes(protocol, TRAIN, "train", 1, [0]),
            plan_episodes(protocol, TRAIN, "train", 0, [1]),
            plan_episodes(protocol, TRAIN, "train", 0, [2**32]),
        ]
        if protocol.kind != "supervised":
            changed = protocol.model_copy(update={"scoring": protocol.scoring.model_copy(update={"test_episodes": 7})})
            assert changed.digest != protocol.digest
            others.append(plan_episodes(changed, TRAIN, "train", 0, [0]))
        assert not any(np.array_equal(base.image, other.image) for other in others), protocol.kind
    delayed = plan_episodes(stream(5, 10, delay=2), TRAIN, "train", 0, [0])
    assert not np.array_equal(delayed.image, plan_episodes(stream(5, 10), TRAIN, "train", 0, [0]).image)


@given(cases())
def test_planning_neither_reads_nor_moves_global_random_state(case: Case) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    one = case.plan()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    random.seed(2)
    np.random.seed(2)
    assert same(one, case.plan())


PLANS_OF_ALL_KINDS = """
import hashlib, json, sys
from harness.data.dataset import card_table
from harness.episodes.plan import plan_episodes
from harness.protocol.models import PROTOCOL
for data in json.loads(sys.argv[1]):
    p = PROTOCOL.validate_python(data)
    found = plan_episodes(p, card_table(p.card, "test"), "test", 0, range(20))
    print(p.digest, hashlib.sha256(found.image.tobytes() + found.target.tobytes()).hexdigest())
"""


def test_plans_do_not_depend_on_hash_randomisation() -> None:
    data = json.dumps([protocol.model_dump() for protocol in SMALL.values()])
    answers = [
        subprocess.run(
            [sys.executable, "-c", PLANS_OF_ALL_KINDS, data],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("0", "12345")
    ]
    here = []
    for protocol in SMALL.values():
        found = plan_episodes(protocol, card_table(protocol.card, "test"), "test", 0, range(20))
        here += [protocol.digest, hashlib.sha256(found.image.tobytes() + found.target.tobytes()).hexdigest()]
    assert answers == [here] * 2


@pytest.mark.parametrize("name", CARDS)
def test_every_card_can_be_planned(name: str) -> None:
    card = CARDS[name]
    for split in card.classes:
        protocol = stream(5, 9, dataset=name) if card.disjoint else of_kind("supervised", name)
        found = plan_episodes(protocol, card_table(card, split), split, 0, range(3))
        assert found.image.shape == (3, 45 if card.disjoint else 1)
