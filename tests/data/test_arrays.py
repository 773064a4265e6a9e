"""Data sets from arrays: accepted forms, what does not fit, and registering them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from harness.data.arrays import dataset_of
from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.data.registered import register_dataset
from harness.protocol.models import PROTOCOL
from harness.util.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 6, 5), dtype=np.uint8)
LABELS = np.repeat([3, 1, 2], 4)
LISTS = {"train": [1], "validation": [2], "test": [3]}


def of(images: Any = PIXELS, labels: Any = LABELS, splits: Any = LISTS, **more: Any) -> Dataset:
    return dataset_of(images, labels, splits, **more)


def test_classes_are_split_as_listed() -> None:
    found = of()
    assert {split: table.names for split, table in found.tables.items()} == {
        "train": ("1",),
        "validation": ("2",),
        "test": ("3",),
    }
    assert found.tables["train"].members.tolist() == [4, 5, 6, 7]
    assert found.card.disjoint
    assert found.card.image_shape == (3, 6, 5)
    np.testing.assert_allclose(found.card.mean, PIXELS[4:8].mean((0, 2, 3)) / 255, atol=1e-6)


@pytest.mark.parametrize("images", [np.moveaxis(PIXELS, 1, 3), torch.from_numpy(PIXELS)], ids=["hwc", "torch"])
def test_forms_of_the_same_images_are_the_same_data(images: Any) -> None:
    assert of(images).fingerprint == of().fingerprint


def test_gray_images_need_no_channel() -> None:
    assert of(PIXELS[:, 0]).fingerprint == of(PIXELS[:, :1]).fingerprint


def test_a_split_for_each_image_may_share_all_classes() -> None:
    found = of(splits=["train", "test"] * 6)
    assert not found.card.disjoint
    assert found.tables["test"].names == ("1", "2", "3")
    assert found.tables["test"].members.tolist() == [5, 7, 9, 11, 1, 3]


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.tolist(),
        [*LABELS],
        torch.from_numpy(LABELS),
        [*torch.from_numpy(LABELS)],
        LABELS.astype(float),
        LABELS.astype(str),
        pd.Series(LABELS, dtype=float),
    ],
    ids=["list", "numpy scalars", "torch", "torch scalars", "float", "text", "pandas"],
)
def test_labels_of_any_type_are_the_same_classes(labels: Any) -> None:
    assert of(labels=labels).fingerprint == of().fingerprint


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (None, "image 0 has no label"),
        (float("nan"), "image 0 has no label"),
        ("3", "the labels '3' and 3 have one name, '3'"),
    ],
)
def test_labels_that_are_missing_or_not_alike_are_told(first: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(labels=[first, *LABELS[1:].tolist()])


def test_what_was_given_may_be_changed_afterwards() -> None:
    mine = PIXELS.copy()
    found = of(mine)
    mine[:] = 0
    assert np.array_equal(found.images, PIXELS)


def test_masks_are_planes_of_0_and_1() -> None:
    found = of(masks=PIXELS[:, 0] > 99)
    assert found.masks is not None
    assert found.masks.dtype == np.uint8
    assert found.card.masks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": PIXELS / 255}, "images are float64; give uint8"),
        ({"images": PIXELS[:, :2]}, r"images are \[12, 2, 6, 5\]"),
        ({"images": PIXELS[:0]}, r"images are \[0, 3, 6, 5\]"),
        ({"labels": LABELS[1:]}, "12 images and 11 labels"),
        ({"splits": {"train": [1], "test": [1]}}, "class '1' is in the splits train and test"),
        ({"splits": {"train": [1], "test": [9]}}, "no image of these classes:\n  9"),
        ({"splits": {"train": [1]}}, "there is no test split"),
        ({"splits": {"train": [1], "tset": [2]}}, "unknown split 'tset'. Did you mean 'test'"),
        ({"splits": ["train"] * 12}, "there is no test split"),
        ({"splits": ["train", "test"]}, "12 images, and 2 names"),
        ({"splits": ["train"] * 6 + ["test"] * 6}, "share some classes and not all:\n  1"),
        ({"masks": PIXELS[:, 0]}, "other values than 0"),
        ({"masks": PIXELS[:, 0, :3]}, "masks are"),
        ({"masks": np.zeros_like(PIXELS[:, 0])}, "masks mark no pixel as object, of images 0, 1, "),
        (
            {"masks": np.arange(len(PIXELS))[:, None, None] * np.ones_like(PIXELS[:, 0]) != 2},
            "1 mask marks .* image 2;",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(**change)


def test_a_registered_data_set_is_known_by_its_name() -> None:
    first, second = of(name="dots"), of(255 - PIXELS, name="dots")
    register_dataset(first)
    assert load_dataset("dots") is first
    register_dataset(second)
    assert load_dataset("dots") is second
    text = {
        "kind": "online_few_shot",
        "title": "dots",
        "dataset": "dots",
        "episode": {"ways": 1, "presentations": 2},
    }
    assert PROTOCOL.validate_python({**text, "scoring": {"shots": [1]}}).card is second.card


@pytest.mark.parametrize("name", ["omniglot", "My Data", ""])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"is the name of a data set|cannot be the name"):
        register_dataset(of(name=name))
