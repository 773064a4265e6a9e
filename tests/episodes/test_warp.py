"""Task augmentation: an episode's images against SciPy's interpolation through maps computed one by one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from harness.episodes.changes import MOVES
from harness.episodes.episode_plan import WARP
from harness.episodes.plan import plan_key
from harness.episodes.source import EpisodeSource
from harness.episodes.warp import drawn_maps
from harness.testing import protocols, tiny_dataset
from harness.util import philox
from tests.helpers.plans import of_kind

SOURCES = {
    name: EpisodeSource(tiny_dataset(name, classes=7, images=6, turned=True))
    for name in ("glyphs", "objects", "objects_supervised", "scenes")
}
NUMBERS = st.lists(st.integers(0, 1000), min_size=1, max_size=3)


def map_of(words: list[int], number: int) -> np.ndarray:
    """The map [3, 3] of the class `number` of an episode with these random words, as a product of simple ones."""
    angle, wide, high, shear, right, down = (2 * word / 2**32 - 1 for word in words[:6])
    angle *= math.pi / 9
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    stretch = np.array([[1.2**wide, 0.2 * shear, 0], [0, 1.2**high, 0], [0, 0, 1]])
    move = np.array([[1, 0, right / 14], [0, 1, down / 14], [0, 0, 1]])
    mirror = np.diag([-1.0 if words[6 + number] < 2**31 else 1.0, 1, 1])
    return move @ turn @ stretch @ mirror


def seen_through(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """An image [C, H, W] through a map of coordinates from -1 to 1, by SciPy."""
    _, height, width = image.shape
    down, right = ((np.arange(pixels) + 0.5) / pixels * 2 - 1 for pixels in (height, width))
    y, x = np.meshgrid(down, right, indexing="ij")
    at_x, at_y, _ = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y, np.ones_like(x)]))
    pixels = [(at_y + 1) / 2 * height - 0.5, (at_x + 1) / 2 * width - 0.5]
    return np.stack([map_coordinates(plane, pixels, order=1, mode="nearest") for plane in image])


@given(protocols(), st.integers(0, 9), NUMBERS, st.sampled_from([(), MOVES]))
def test_each_image_is_seen_through_the_map_of_its_episode(
    protocol: Any, seed: int, numbers: list[int], moves: tuple[str, ...]
) -> None:
    source = SOURCES[protocol.dataset]
    plain = source.episodes(protocol, "train", seed, numbers, moves)
    found = source.episodes(protocol, "train", seed, numbers, (*moves, "warp"))
    ways = plain.plan.classes.shape[1]
    words = philox.words(plan_key(protocol, "train", seed), np.array(numbers), WARP, 6 + ways).tolist()
    for b in range(len(numbers)):
        for t in range(plain.plan.steps):
            expected = seen_through(plain.x[t, b].double().numpy(), map_of(words[b], plain.plan.target[b, t]))
            np.testing.assert_allclose(found.x[t, b].numpy(), expected, atol=2e-4)
    assert torch.equal(found.scored, plain.scored)
    if plain.objects is None:
        assert torch.equal(found.target, plain.target)


@pytest.mark.slow
def test_maps_are_spread_over_all_that_they_may_be_and_half_the_classes_are_mirrored() -> None:
    protocol = of_kind("n_way_k_shot", "glyphs", ways=4, shots=1, queries=1)
    plan = SOURCES["glyphs"].episodes(protocol, "train", 0, range(4000), ("warp",)).plan
    maps = drawn_maps(plan, plan_key(protocol, "train", 0)).reshape(plan.steps, 4000, 6) / 2**24
    a, _, c, d, _, f = np.moveaxis(maps[0], -1, 0)
    sign = np.sign(a)
    angle = np.arctan2(d * sign, a * sign)
    assert abs((sign < 0).mean() - 0.5) < 0.04
    for values, most in ((angle, math.pi / 9), (np.log(np.hypot(a, d)), math.log(1.2)), (c, 1 / 14), (f, 1 / 14)):
        counts, _ = np.histogram(values, 4, (-most, most))
        assert counts.sum() == 4000
        assert np.abs(counts - 1000).max() < 150


@given(st.integers(0, 9), NUMBERS)
def test_single_images_stay_as_they_are(seed: int, numbers: list[int]) -> None:
    source, protocol = SOURCES["glyphs"], of_kind("n_way_k_shot", "glyphs", ways=4, shots=1, queries=1)
    plain, warped = (source.images(protocol, "train", seed, numbers, each)[0] for each in ((), ("warp",)))
    assert torch.equal(plain, warped)
