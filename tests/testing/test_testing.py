"""The public helpers for tests are right themselves, by hand-written examples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from harness import testing
from harness.data.dataset import SPLITS, ClassTable
from harness.evaluation.rollout import step_through
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.models import KINDS, PROTOCOL
from harness.util.errors import UserError


def test_the_papers_example_of_delay_three() -> None:
    # ((x1, null), (x2, null), (x3, null), (x4, y1), (x5, y2))
    assert list(testing.reference_events([7, 8, 9, 7, 8], delay=3)) == [
        ("show", 0),
        ("show", 1),
        ("show", 2),
        ("reveal", 0, 7),
        ("show", 3),
        ("reveal", 1, 8),
        ("show", 4),
    ]


def test_delay_one_reveals_each_label_before_the_next_step() -> None:
    assert list(testing.reference_events([4, 5], delay=1)) == [("show", 0), ("reveal", 0, 4), ("show", 1)]


def test_counts_by_hand() -> None:
    assert testing.reference_counts([0, 0, 1, 0], delay=1) == [(0, 0), (1, 1), (0, 0), (2, 2)]
    assert testing.reference_counts([0, 0, 1, 0], delay=2) == [(0, 0), (1, 0), (0, 0), (2, 2)]
    assert testing.reference_counts([0, 0, 1, 0], delay=3) == [(0, 0), (1, 0), (0, 0), (2, 1)]
    assert testing.reference_counts([0, 0, 1, 0], delay=4) == [(0, 0), (1, 0), (0, 0), (2, 0)]


KINDS_BY_HAND: dict[str, tuple[dict[str, Any], list[int], list[tuple[Any, ...]], list[tuple[int, int]]]] = {
    "continual": (
        {"subtasks": 2, "shots": 2, "queries": 1},
        [1, 1, 0, 0, 1, 0],
        [
            ("show", 0),
            ("reveal", 0, 1),
            ("show", 1),
            ("reveal", 1, 1),
            ("show", 2),
            ("reveal", 2, 0),
            ("show", 3),
            ("reveal", 3, 0),
            ("adapt",),
            ("ask", 4),
            ("ask", 5),
        ],
        [(0, 0), (1, 1), (0, 0), (1, 1), (2, 2), (2, 2)],
    ),
    "n_way_k_shot": (
        {"ways": 2, "shots": 1, "queries": 2},
        [1, 0, 0, 1, 1, 0],
        [("pair", 0, 1), ("pair", 1, 0), ("adapt",), ("ask", 2), ("ask", 3), ("ask", 4), ("ask", 5)],
        [(0, 0), (0, 0), (1, 1), (1, 1), (1, 1), (1, 1)],
    ),
    "segmentation_distractors": (
        {"presentations": 2},
        [1, 0, 0, 1],
        [("show", 0), ("reveal", 0, 1), ("show", 1), ("reveal", 1, 0), ("show", 2), ("reveal", 2, 0), ("show", 3)],
        [(0, 0), (0, 0), (1, 1), (1, 1)],
    ),
    "delayed_label": (
        {"ways": 1, "presentations": 3, "label_delay": 2},
        [0, 0, 0],
        [("show", 0), ("show", 1), ("reveal", 0, 0), ("show", 2)],
        [(0, 0), (1, 0), (2, 1)],
    ),
    "supervised": ({}, [7], [("show", 0)], [(0, 0)]),
}


FITTING = {"segmentation_distractors": "scenes", "supervised": "objects_supervised"}


@pytest.mark.parametrize("kind", KINDS_BY_HAND)
def test_timelines_and_tallies_of_each_kind_by_hand(kind: str) -> None:
    episode, targets, events, counts = KINDS_BY_HAND[kind]
    scoring = {"shots": [0]} if kind in {"segmentation_distractors", "delayed_label"} else {}
    protocol = PROTOCOL.validate_python(
        {"kind": kind, "title": "t", "dataset": FITTING.get(kind, "objects"), "episode": episode, "scoring": scoring}
    )
    assert list(testing.reference_timeline(protocol, targets)) == events
    assert testing.reference_tally(protocol, targets) == counts


@given(testing.protocols(testing.STREAM_KINDS), st.data())
def test_the_timeline_of_a_stream_is_that_of_its_delay(protocol: Any, data: st.DataObject) -> None:
    targets = data.draw(st.lists(st.integers(0, protocol.episode.ways - 1), max_size=12))
    assert list(testing.reference_timeline(protocol, targets)) == list(
        testing.reference_events(targets, protocol.label_delay)
    )
    assert testing.reference_tally(protocol, targets) == testing.reference_counts(targets, protocol.label_delay)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda protocol: protocol.label_delay > protocol.steps,
        lambda protocol: protocol.label_delay == protocol.steps,
        lambda protocol: protocol.label_delay == 1,
        lambda protocol: 1 < protocol.label_delay < protocol.steps,
        lambda protocol: protocol.episode.order == "iid",
        lambda protocol: protocol.steps == 1,
        lambda protocol: protocol.scoring.shots[-1] > 0,
        lambda protocol: protocol.episode.order == "cyclic",
    ],
)
def test_streams_reach_the_corners(wanted: Any) -> None:
    assert wanted(find(testing.protocols(testing.STREAM_KINDS), wanted))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn(kind: str) -> None:
    assert find(testing.protocols(), lambda protocol: protocol.kind == kind)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("continual", lambda shape: shape.subtasks == 1),
        ("continual", lambda shape: shape.subtasks > 1 and shape.shots > 1 and shape.queries > 1),
        ("n_way_k_shot", lambda shape: shape.ways == 1),
        ("n_way_k_shot", lambda shape: shape.ways > 1 and shape.shots > 1 and shape.queries > 1),
        ("segmentation_distractors", lambda shape: shape.distractor),
        ("segmentation_distractors", lambda shape: not shape.distractor),
    ],
)
def test_other_kinds_reach_the_corners(kind: str, wanted: Any) -> None:
    assert find(testing.protocols([kind]), lambda protocol: wanted(protocol.episode))


@given(st.sampled_from(list(KINDS)), st.integers(1, 3), st.integers(1, 3), st.data())
def test_protocols_keep_to_what_is_asked_for(kind: str, ways: int, presentations: int, data: st.DataObject) -> None:
    protocol = data.draw(testing.protocols([kind], ways, presentations))
    assert protocol.kind == kind
    needs = protocol.needs
    assert needs.classes <= max(ways, 2 if kind == "segmentation_distractors" else 1)
    assert needs.images <= max(presentations, 2 if kind in {"continual", "n_way_k_shot"} else 1)


def test_an_unknown_kind_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="Did you mean 'delayed_label'"):
        testing.protocols(kinds=["delayed_labels"])


@given(testing.class_tables())
def test_class_tables_are_whole(table: ClassTable) -> None:
    classes = len(table.names)
    assert len(table.offsets) == classes + 1
    assert len(table.rotations) == classes
    assert table.offsets[0] == 0
    assert table.offsets[-1] == len(table.members)
    assert table.sizes.min() >= 5
    rows = [
        (tuple(table.members[a:b].tolist()), int(turn))
        for a, b, turn in zip(table.offsets[:-1], table.offsets[1:], table.rotations, strict=True)
    ]
    assert len(set(rows)) == classes
    assert all(len(set(images)) == len(images) for images, _ in rows)


def test_class_tables_reach_uneven_sizes_and_turned_copies() -> None:
    assert find(testing.class_tables(), lambda table: len(set(table.sizes.tolist())) > 2)
    assert find(testing.class_tables(), lambda table: {0, 1, 2, 3} <= set(table.rotations.tolist()))


def test_tiny_data_sets_are_pure_and_of_the_shape_asked_for() -> None:
    one, again, other = (testing.tiny_dataset("objects", 4, 3, seed=seed) for seed in (0, 0, 1))
    assert one.images.shape == (3 * 4 * 3, 3, 32, 32)
    assert one.images.dtype == np.uint8
    assert (one.images == again.images).all()
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert (one.images != other.images).any()
    # 36 x 3072 random bytes: mean 127.5, deviation of the mean 0.22.
    assert abs(one.images.mean() - 127.5) < 1
    assert one.masks is None
    for split in SPLITS:
        assert len(one.tables[split].names) == one.card.classes[split] == 4
        assert set(one.tables[split].sizes.tolist()) == {one.card.images_per_class[split]} == {3}


def test_tiny_data_sets_have_masks_where_asked_or_where_their_card_says() -> None:
    plain, masked, scenes = (
        testing.tiny_dataset("objects", 3, 2),
        testing.tiny_dataset("objects", 3, 2, masks=True),
        testing.tiny_dataset("scenes", 3, 2),
    )
    assert (plain.images == masked.images).all()
    assert plain.fingerprint != masked.fingerprint
    for dataset in (masked, scenes):
        assert dataset.card.masks
        assert dataset.masks is not None
        assert dataset.masks.dtype == np.uint8
        assert dataset.masks.shape == (len(dataset.images), 1, *dataset.images.shape[2:])
        assert set(np.unique(dataset.masks)) == {0, 1}
        assert abs(dataset.masks.mean() - 0.5) < 0.02


def test_a_tiny_supervised_data_set_has_the_same_classes_and_other_images_in_train_and_test() -> None:
    dataset = testing.tiny_dataset("objects_supervised", 4, 3)
    assert list(dataset.tables) == ["train", "test"]
    train, test = dataset.tables.values()
    assert train.names == test.names
    assert not set(train.members.tolist()) & set(test.members.tolist())
    assert len(dataset.images) == 2 * 4 * 3


@given(testing.episodes())
def test_episodes_of_all_kinds_have_their_shapes(episodes: Any) -> None:
    steps, batch = episodes.target.shape[:2]
    assert 1 <= batch <= 4
    assert episodes.x.shape[:2] == episodes.scored.shape == (steps, batch)
    assert steps == episodes.plan.steps
    assert (episodes.objects is None) == (episodes.target.dim() == 2)


@given(testing.protocols(testing.STREAM_KINDS, max_ways=4), st.integers(0, 99))
def test_the_example_of_the_module_runs(protocol: Any, seed: int) -> None:
    cls = load_method("copy_last").cls
    episodes = testing.tiny_episodes(protocol, seed=seed)
    method = build_method(cls, task_for(cls, protocol, episodes.x.shape[2:]), {}, seed)
    assert step_through(method, episodes)[0].isfinite().all()


def test_importing_the_kit_loads_neither_torch_nor_hypothesis() -> None:
    script = "import sys, harness.testing; print({'torch', 'hypothesis'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    ).stdout.strip()
    assert found == "set()"
