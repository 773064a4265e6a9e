"""Which protocol weights are selected by, where validation has fewer classes than an episode of the protocol."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from harness.data.dataset import Dataset
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.testing import tiny_dataset
from harness.training.selection import validation_protocol

TWENTY = {"kind": "n_way_k_shot", "episode": {"ways": 20, "shots": 1, "queries": 2}}
KINDS: list[tuple[dict[str, Any], str]] = [
    (TWENTY, "ways"),
    (
        {
            "kind": "online_few_shot",
            "episode": {"ways": 20, "presentations": 3, "order": "iid"},
            "scoring": {"shots": [1, 59]},
        },
        "ways",
    ),
    (
        {
            "kind": "delayed_label",
            "episode": {"ways": 20, "presentations": 3, "label_delay": 50},
            "scoring": {"shots": [1]},
        },
        "ways",
    ),
    ({"kind": "continual", "episode": {"subtasks": 20, "shots": 1, "queries": 2}}, "subtasks"),
]


def protocol(given: dict[str, Any]) -> AnyProtocol:
    return PROTOCOL.validate_python({"title": "x", "dataset": "mini_imagenet", **given})


def with_validation(classes: int) -> Dataset:
    """A tiny data set whose validation split has so many classes (none at all for 0)."""
    dataset = tiny_dataset("mini_imagenet", 20, 5)
    table = dataset.tables["validation"]
    cut = dataclasses.replace(
        table, names=table.names[:classes], offsets=table.offsets[: classes + 1], rotations=np.zeros(classes, np.int8)
    )
    tables = {split: each for split, each in {**dataset.tables, "validation": cut}.items() if len(each.names)}
    return dataclasses.replace(dataset, tables=tables)


@pytest.mark.parametrize(("given", "key"), KINDS)
def test_with_fewer_classes_weights_are_selected_in_as_many_ways(given: dict[str, Any], key: str) -> None:
    own = protocol(given)
    by = validation_protocol(own, with_validation(16))
    assert by is not None
    assert by.ways == getattr(by.episode, key) == 16
    assert by.model_dump(exclude={"episode", "scoring"}) == own.model_dump(exclude={"episode", "scoring"})


@pytest.mark.parametrize("classes", [20, 0, 1])
def test_with_enough_classes_by_the_protocol_itself_and_with_too_few_by_none(classes: int) -> None:
    own = protocol(TWENTY)
    assert validation_protocol(own, with_validation(classes)) is (own if classes == 20 else None)


def test_a_target_and_a_distractor_cannot_be_fewer() -> None:
    own = PROTOCOL.validate_python(
        {
            "kind": "segmentation_distractors",
            "title": "x",
            "dataset": "fss1000",
            "episode": {"presentations": 2},
            "scoring": {"shots": [1]},
        }
    )
    assert validation_protocol(own, with_validation(1)) is None
