"""`scenes`: masks of one object each, classes that differ by their object, and no way to the masks by colour alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from harness.data.dataset import Dataset
from harness.data.synthetic import scenes


@pytest.fixture(scope="module")
def data(generated: dict[str, Dataset]) -> Dataset:
    return generated["scenes"]


@pytest.fixture(scope="module")
def masks(data: Dataset) -> np.ndarray:
    """bool [N, 64, 64]"""
    assert data.masks is not None
    return np.asarray(data.masks[:, 0]) == 1


def overlap(found: np.ndarray, wanted: np.ndarray) -> float:
    return float((found & wanted).sum() / max((found | wanted).sum(), 1))


def members(data: Dataset, split: str) -> Iterator[np.ndarray]:
    table = data.tables[split]
    return (table.members[low:high] for low, high in zip(table.offsets, table.offsets[1:], strict=False))


@pytest.mark.slow
def test_every_image_has_a_binary_mask_of_its_size(data: Dataset) -> None:
    assert data.card.masks
    assert data.masks is not None
    assert data.masks.shape == (len(data.images), 1, *data.images.shape[2:])
    assert data.masks.dtype == np.uint8
    assert (data.masks.min(), data.masks.max()) == (0, 1)


def test_objects_cover_8_to_40_per_cent_and_never_reach_all_borders(masks: np.ndarray) -> None:
    share = masks.mean(axis=(1, 2))
    assert 0.08 < share.min() < 0.12
    assert 0.35 < share.max() < 0.41
    edges = [masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]]
    assert np.sum([edge.any(axis=1) for edge in edges], axis=0).max() <= 2


def test_no_two_classes_are_defined_alike_and_each_is_named_by_its_looks() -> None:
    kinds = scenes.kinds()
    assert len(set(kinds)) == sum(scenes.CLASSES.values())
    assert {kind.outline for kind in kinds} == set(scenes.OUTLINES)
    assert all(len(set(kind.colours)) == (1 if kind.texture == "plain" else 2) for kind in kinds)


def test_images_differ_across_the_outline_of_the_mask(data: Dataset, masks: np.ndarray) -> None:
    """Neighbours two pixels apart differ more where the outline passes between them than elsewhere."""
    steps = np.abs(data.images[:, :, :, 2:].astype(np.int64) - data.images[:, :, :, :-2]).sum(axis=1)
    outline = masks[:, :, 2:] != masks[:, :, :-2]
    at = (steps * outline).sum(axis=(1, 2)) / outline.sum(axis=(1, 2))
    elsewhere = (steps * ~outline).sum(axis=(1, 2)) / (~outline).sum(axis=(1, 2))
    assert (at > elsewhere).mean() > 0.999
    assert (at > 2 * elsewhere).mean() > 0.99


def test_objects_of_a_class_are_more_alike_than_those_of_two_classes(data: Dataset, masks: np.ndarray) -> None:
    def colours(image: int) -> np.ndarray:
        inside = data.images[image][:, masks[image]] // 64
        counts = np.bincount(inside[0] * 16 + inside[1] * 4 + inside[2], minlength=64)
        return np.asarray(np.sqrt(counts / counts.sum()))

    looks = np.stack([[colours(image) for image in images] for images in members(data, "test")])
    alike = np.einsum("aih,bjh->abij", looks, looks)
    same = np.diagonal(alike).transpose(2, 0, 1)[:, ~np.eye(scenes.IMAGES, dtype=bool)]
    other = alike[~np.eye(len(looks), dtype=bool)]
    assert 0.3 < same.mean() < 0.6
    assert other.mean() < 0.4 * same.mean(), other.mean()


@pytest.mark.slow
def test_trivial_masks_and_colours_find_little_of_the_object(data: Dataset, masks: np.ndarray) -> None:
    """Foreground IoU of five learners that see five images of the class with their masks."""
    rng = np.random.default_rng(0)
    scores: dict[str, list[float]] = {name: [] for name in ("all", "copy", "nearest", "mean", "colour")}
    pixels = np.asarray(data.images).astype(np.float32)
    for images in members(data, "test"):
        order = rng.permutation(images)
        query, support = order[0], order[1:6]
        nearest = support[((pixels[support] - pixels[query]) ** 2).sum(axis=(1, 2, 3)).argmin()]
        sample = rng.choice(5 * 64 * 64, 400, replace=False)
        seen = pixels[support].transpose(0, 2, 3, 1).reshape(-1, 3)[sample]
        labels = masks[support].reshape(-1)[sample]
        query_pixels = pixels[query].reshape(3, -1).T
        distance = (seen**2).sum(axis=1) - 2 * query_pixels @ seen.T
        votes = labels[np.argpartition(distance, 5, axis=1)[:, :5]].mean(axis=1)
        for name, found in (
            ("all", np.ones((64, 64), bool)),
            ("copy", masks[support[0]]),
            ("nearest", masks[nearest]),
            ("mean", masks[support].mean(axis=0) >= 0.5),
            ("colour", (votes > 0.5).reshape(64, 64)),
        ):
            scores[name].append(overlap(found, masks[query]))
    means = {name: float(np.mean(each)) for name, each in scores.items()}
    assert all(0.15 < means[name] < 0.35 for name in ("all", "copy", "nearest", "mean")), means
    assert 0.3 < means["colour"] < 0.6, means
