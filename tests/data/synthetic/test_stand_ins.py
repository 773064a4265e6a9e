"""Stand-ins: the same pixels everywhere, classes that can be learned, and not by comparing pixels."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from harness.data.cards import CARDS
from harness.data.dataset import ClassTable, Dataset
from harness.data.synthetic import drawing, glyphs, objects, registry, scenes
from harness.util import philox

FINGERPRINTS = {
    "glyphs": "966b05f4b018fbf8b7d8c99302a63964f5a328860a369069f10803a11899311e",
    "objects": "e766921956517fc967054d3d9afc4fc61a9894cef1ace5a731d03f73cda727ac",
    "scenes": "a453fe060b2152ab6e5019f89d747d5eb4ba8b6fee13783e5646e217e0cd70de",
}


@pytest.fixture(params=list(FINGERPRINTS))
def data(request: pytest.FixtureRequest, generated: dict[str, Dataset]) -> Dataset:
    return generated[request.param]


def members(table: ClassTable, number: int) -> np.ndarray:
    return table.members[table.offsets[number] : table.offsets[number + 1]]


def test_pixels_and_classes_are_the_same_on_every_machine(data: Dataset) -> None:
    assert data.fingerprint == FINGERPRINTS[data.name]


@pytest.mark.parametrize("module", [glyphs, objects, scenes, drawing, philox])
def test_generators_use_no_floating_point(module: object) -> None:
    for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):  # type: ignore[attr-defined]
        assert not isinstance(node, ast.Div)
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
        assert not (isinstance(node, ast.Attribute) and node.attr in {"sin", "cos", "sqrt", "mean", "random"})


def test_a_stand_in_is_what_its_card_says(data: Dataset) -> None:
    card = CARDS[data.name]
    assert card.stand_in
    assert data.images.shape[1:] == card.image_shape
    assert {split: len(table.names) for split, table in data.tables.items()} == card.classes
    assert {split: int(table.sizes.min()) for split, table in data.tables.items()} == card.images_per_class
    assert len(set(data.image_ids)) == len(data.images)
    names = [name for table in data.tables.values() for name in table.names]
    assert len(set(names)) == len(names)
    for table in data.tables.values():
        for c, name in enumerate(table.names):
            assert all(data.image_ids[image].startswith(f"{name}/") for image in members(table, c))


def test_the_first_classes_alone_are_those_of_the_whole(data: Dataset) -> None:
    images, masks = registry.first_classes(data.name, 3, 5)
    first = np.stack([members(data.tables["train"], c)[:5] for c in range(3)])
    assert np.array_equal(images, data.images[first])
    assert (masks is None) == (data.masks is None)
    if masks is not None and data.masks is not None:
        assert np.array_equal(masks, data.masks[first])


@pytest.mark.parametrize("name", ["objects", "scenes"])
def test_colours_are_normalised_by_what_was_measured(generated: dict[str, Dataset], name: str) -> None:
    data = generated[name]
    pixels = data.images[np.sort(data.tables["train"].members)] / 255
    assert np.abs(pixels.mean(axis=(0, 2, 3)) - CARDS[name].mean).max() < 0.0006
    assert np.abs(pixels.std(axis=(0, 2, 3)) - CARDS[name].std).max() < 0.0006


def test_no_two_images_are_the_same(data: Dataset) -> None:
    assert len({image.tobytes() for image in data.images}) == len(data.images)


def test_no_two_kinds_of_objects_are_defined_alike() -> None:
    assert len(set(objects.kinds())) == sum(objects.CLASSES.values())
    assert all(len(kind.colours) == (1 if kind.texture == "plain" else 2) for kind in objects.kinds())
    assert all(len(set(kind.colours)) == len(kind.colours) for kind in objects.kinds())


def test_every_glyph_is_nearest_to_itself_among_all(generated: dict[str, Dataset]) -> None:
    drawings = generated["glyphs"].images.reshape(-1, glyphs.DRAWINGS, 28 * 28)
    first, second = drawings[:, ::2].mean(axis=1), drawings[:, 1::2].mean(axis=1)
    distance = (first**2).sum(axis=1)[:, None] - 2 * first @ second.T + (second**2).sum(axis=1)
    assert (distance.argmin(axis=1) == np.arange(len(drawings))).mean() > 0.97


def test_every_glyph_is_drawn_and_lies_inside_the_frame(generated: dict[str, Dataset]) -> None:
    ink = generated["glyphs"].images[:, 0] / 255
    each = ink.sum(axis=(1, 2))
    assert each.min() > 15
    assert each.max() < 200
    # Real characters of Omniglot have a thousandth of their ink in the outermost pixels.
    assert ink[:, 1:-1, 1:-1].sum() > 0.997 * ink.sum()


def test_nearest_pixels_know_something_but_not_much(data: Dataset) -> None:
    """5-way 1-shot on the test classes, nearest neighbour in squared pixel difference, per cent."""
    low, high = {"glyphs": (50, 65), "objects": (28, 40), "scenes": (21, 30)}[data.name]
    table, rng = data.tables["test"], np.random.default_rng(0)
    flat = np.asarray(data.images).reshape(len(data.images), -1).astype(np.float32)
    hits = 0
    for _ in range(1000):
        classes = rng.choice(len(table.names), 5, replace=False)
        pairs = np.array([rng.choice(members(table, c), 2, replace=False) for c in classes])
        distance = ((flat[pairs[:, 0], None] - flat[None, pairs[:, 1]]) ** 2).sum(axis=2)
        hits += int((distance.argmin(axis=1) == np.arange(5)).sum())
    assert low < hits / 50 < high
