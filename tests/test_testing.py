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
from harness.errors import UserError
from harness.registry import build_method, load_method, task_for
from harness.rollout import step_through


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
    ],
)
def test_protocols_reach_the_corners(wanted: Any) -> None:
    assert wanted(find(testing.protocols(), wanted))


@given(st.sampled_from(testing.STREAM_KINDS), st.data())
def test_protocols_are_of_the_kinds_asked_for(kind: str, data: st.DataObject) -> None:
    assert data.draw(testing.protocols([kind])).kind == kind


def test_a_kind_that_is_not_a_stream_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="Did you mean 'delayed_label'"):
        testing.protocols(kinds=["delayed_labels"])


@given(testing.class_tables())
def test_class_tables_are_whole(table: ClassTable) -> None:
    classes = len(table.names)
    assert len(table.offsets) == classes + 1
    assert len(table.turns) == classes
    assert table.offsets[0] == 0
    assert table.offsets[-1] == len(table.members)
    assert table.sizes.min() >= 5
    rows = [
        (tuple(table.members[a:b].tolist()), int(turn))
        for a, b, turn in zip(table.offsets[:-1], table.offsets[1:], table.turns, strict=True)
    ]
    assert len(set(rows)) == classes
    assert all(len(set(images)) == len(images) for images, _ in rows)


def test_class_tables_reach_uneven_sizes_and_turned_copies() -> None:
    assert find(testing.class_tables(), lambda table: len(set(table.sizes.tolist())) > 2)
    assert find(testing.class_tables(), lambda table: {0, 1, 2, 3} <= set(table.turns.tolist()))


def test_tiny_data_sets_are_pure_and_of_the_shape_asked_for() -> None:
    one, again, other = (testing.tiny_dataset("objects", 4, 3, seed=seed) for seed in (0, 0, 1))
    assert one.images.shape == (3 * 4 * 3, 3, 32, 32)
    assert one.images.dtype == np.uint8
    assert (one.images == again.images).all()
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert (one.images != other.images).any()
    # 36 x 3072 random bytes: mean 127.5, deviation of the mean 0.22.
    assert abs(one.images.mean() - 127.5) < 1
    for split in SPLITS:
        assert len(one.tables[split].names) == one.card.classes[split] == 4
        assert set(one.tables[split].sizes.tolist()) == {one.card.images_per_class[split]} == {3}


@given(testing.protocols(max_ways=4), st.integers(0, 99))
def test_the_example_of_the_module_runs(protocol: Any, seed: int) -> None:
    cls = load_method("copy_last").cls
    episodes = testing.tiny_episodes(protocol, seed=seed)
    method = build_method(cls, task_for(cls, protocol, episodes.x.shape[2:]), {}, seed)
    assert step_through(method, episodes)[0].isfinite().all()


def test_importing_the_module_loads_neither_torch_nor_hypothesis() -> None:
    script = "import sys, harness.testing; print({'torch', 'hypothesis'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    ).stdout.strip()
    assert found == "set()"
