"""The supervised stand-in: the same pixels everywhere, the same classes in train and test, hard for nearest pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.data.cards import CARDS
from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.data.synthetic import objects

FINGERPRINT = "4484de9fd803d1570c32f316c001bee3d62e10a21fc9ad0336ffd60cc2ebafaa"


@pytest.fixture(scope="module")
def data(cache: Path) -> Dataset:
    return load_dataset("objects_supervised", cache=cache)


@pytest.mark.slow
def test_pixels_and_classes_are_the_same_on_every_machine(data: Dataset) -> None:
    assert data.fingerprint == FINGERPRINT


def test_train_and_test_have_the_same_classes_and_no_image_in_common(data: Dataset) -> None:
    card, train, test = CARDS["objects_supervised"], data.tables["train"], data.tables["test"]
    assert list(data.tables) == list(card.classes) == ["train", "test"]
    assert not card.disjoint
    assert train.names == test.names
    for split, table in data.tables.items():
        assert len(set(table.names)) == len(table.names) == card.classes[split]
        assert set(table.sizes.tolist()) == {card.images_per_class[split]}
        for c, name in enumerate(table.names):
            members = table.members[table.offsets[c] : table.offsets[c + 1]]
            assert all(data.image_ids[image].startswith(f"{name}/") for image in members)
    used = np.concatenate([train.members, test.members])
    assert sorted(used.tolist()) == list(range(len(data.images)))
    assert len(set(data.image_ids)) == len(data.images)


@pytest.mark.slow
def test_no_image_is_repeated_or_taken_from_the_stand_in_of_few_shot_protocols(data: Dataset) -> None:
    images = {image.tobytes() for image in data.images}
    assert len(images) == len(data.images)
    assert images.isdisjoint(image.tobytes() for image in objects.generate().images)


def test_it_is_normalised_by_what_was_measured(data: Dataset) -> None:
    card = CARDS["objects_supervised"]
    pixels = data.images[np.sort(data.tables["train"].members)] / 255
    assert np.abs(pixels.mean(axis=(0, 2, 3)) - card.mean).max() < 0.0006
    assert np.abs(pixels.std(axis=(0, 2, 3)) - card.std).max() < 0.0006


def test_nearest_pixels_know_something_but_not_much(data: Dataset) -> None:
    """20 classes, nearest of all 4000 images to train in squared pixel difference; guessing is right in 5 %."""
    flat = np.asarray(data.images).reshape(len(data.images), -1).astype(np.float32)
    train, test = data.tables["train"].members, data.tables["test"].members
    distance = (flat[train] ** 2).sum(axis=1) - 2 * flat[test] @ flat[train].T
    hits = distance.argmin(axis=1) // 200 == np.arange(len(test)) // 50
    assert 0.07 < hits.mean() < 0.2


def test_every_class_differs_from_its_like_in_shape_or_texture_alone() -> None:
    kinds = objects.supervised_kinds()
    assert len(set(kinds)) == len(kinds) == 20
    assert {kind.layout for kind in kinds} == {"three"}
    assert {kind.colours[0] for kind in kinds} == {"teal"}


@pytest.mark.slow
def test_the_cache_of_a_set_without_validation_is_read_back(data: Dataset, tmp_path: Path) -> None:
    again = [load_dataset("objects_supervised", cache=tmp_path) for _ in range(2)]
    assert {each.fingerprint for each in again} == {data.fingerprint}
    assert all("validation" not in each.tables for each in again)
