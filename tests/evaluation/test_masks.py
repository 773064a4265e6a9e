"""Masks: what is asked for and revealed, how they are turned and augmented with their image, what an answer earns."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.data.dataset import Dataset
from harness.episodes.changes import MOVES
from harness.episodes.plan import NULL
from harness.episodes.source import EpisodeSource
from harness.evaluation.rollout import feedback_of, score_batch
from harness.evaluation.score import metrics, score
from harness.evaluation.score.credit import overlap
from harness.method.interface import Feedback, Method, State
from harness.method.registry import task_for
from harness.testing import protocols, tiny_dataset
from harness.util.errors import UserError
from tests.helpers.plans import of_kind

SEGMENTATION = ("segmentation_distractors",)
NUMBERS = st.lists(st.integers(0, 1000), min_size=1, max_size=4)


def telling(turned: bool) -> Dataset:
    """A data set whose images show their own masks: 255 in every channel on the object, 0 elsewhere."""
    dataset = tiny_dataset("scenes", classes=8, images=6, turned=turned)
    assert dataset.masks is not None
    return dataclasses.replace(dataset, images=np.repeat(dataset.masks * np.uint8(255), 3, axis=1))


SOURCES = {turned: EpisodeSource(telling(turned)) for turned in (False, True)}


def drawn_on(x: Tensor) -> Tensor:
    """The masks [T, B, 1, H, W] that such images show."""
    card = SOURCES[False].dataset.card
    shape = (-1, 1, 1)
    values = x * torch.tensor(card.std).view(shape) + torch.tensor(card.mean).view(shape)
    shown = (values > 0.5).float()
    assert torch.allclose(values, shown, atol=1e-5)
    assert (shown == shown[:, :, :1]).all()
    return shown[:, :, :1]


@given(
    protocols(SEGMENTATION),
    st.booleans(),
    st.sampled_from(["train", "test"]),
    NUMBERS,
    st.sampled_from([(), ("flip",), ("crop",), MOVES]),
)
def test_a_mask_is_turned_flipped_and_cropped_as_its_image_is(
    protocol: Any, turned: bool, split: str, numbers: list[int], augment: tuple[str, ...]
) -> None:
    found = SOURCES[turned].episodes(protocol, split, 0, numbers, augment)
    assert found.objects is not None
    assert found.objects.dtype == found.target.dtype == torch.float32
    assert torch.equal(found.objects, drawn_on(found.x))


def test_masks_are_moved_at_all_in_the_test_above() -> None:
    protocol, source = of_kind("segmentation_distractors", "scenes", presentations=3), SOURCES[True]
    plain, moved = (source.episodes(protocol, "train", 0, range(4), each).objects for each in ((), MOVES))
    assert plain is not None
    assert moved is not None
    assert not any(torch.equal(a, b) for a, b in zip(plain.flatten(0, 1), moved.flatten(0, 1), strict=True))


def test_a_mask_is_warped_as_its_image_is() -> None:
    protocol, source = of_kind("segmentation_distractors", "scenes", presentations=3), SOURCES[True]
    plain, found = (source.episodes(protocol, "train", 0, range(8), each) for each in ((), ("warp",)))
    card = source.dataset.card
    values = (found.x * torch.tensor(card.std).view(-1, 1, 1) + torch.tensor(card.mean).view(-1, 1, 1))[:, :, :1]
    sure = (values - 0.5).abs() > 1e-4
    assert found.objects is not None
    assert plain.objects is not None
    assert torch.equal(found.objects[sure], (values > 0.5).float()[sure])
    assert not torch.equal(found.objects, plain.objects)
    shown = torch.from_numpy(found.plan.target.T == 0)[:, :, None, None, None]
    assert torch.equal(found.target, found.objects * shown)


@given(protocols(SEGMENTATION), st.sampled_from(["train", "test"]), st.integers(0, 9), NUMBERS)
def test_the_target_is_the_objects_mask_of_the_target_class_and_empty_for_the_distractor(
    protocol: Any, split: str, seed: int, numbers: list[int]
) -> None:
    dataset = SOURCES[False].dataset
    found = SOURCES[False].episodes(protocol, split, seed, numbers)
    assert dataset.masks is not None
    assert found.objects is not None
    for t in range(found.plan.steps):
        for b in range(len(numbers)):
            mask = torch.from_numpy(dataset.masks[found.plan.image[b, t]]).float()
            assert torch.equal(found.objects[t, b], mask)
            assert torch.equal(found.target[t, b], mask if found.plan.target[b, t] == 0 else torch.zeros_like(mask))


@given(protocols(SEGMENTATION), NUMBERS)
def test_the_mask_revealed_is_the_target_of_the_step_before_and_first_a_plane_of_minus_one(
    protocol: Any, numbers: list[int]
) -> None:
    found = SOURCES[False].episodes(protocol, "test", 0, numbers)
    revealed = feedback_of(found).target
    assert revealed.shape == found.target.shape
    assert (revealed[0] == NULL).all()
    assert torch.equal(revealed[1:], found.target[:-1])


def test_a_data_set_without_masks_is_refused() -> None:
    source = EpisodeSource(tiny_dataset("objects"))
    protocol = of_kind("segmentation_distractors", "scenes", presentations=3)
    with pytest.raises(UserError, match="the data set 'objects' has no masks"):
        source.episodes(protocol, "test", 0, [0])


# What an answer earns.


def pixel_by_pixel(logits: np.ndarray, target: np.ndarray, objects: np.ndarray) -> float:
    """What one mask [H, W] earns, by counting. A pixel that is not a number is neither foreground nor background."""
    hit = united = hidden = area = 0
    for logit, inside in zip(logits.ravel(), objects.ravel(), strict=True):
        foreground, background = logit > 0, logit <= 0
        hit += bool(foreground and inside)
        united += bool(inside or not background)
        hidden += bool(background and inside)
        area += bool(inside)
    if target.any():
        return hit / united if united else 0.0
    return hidden / area if area else 0.0


LOGITS = st.sampled_from([-math.inf, -3.0, -1e-30, -0.0, 0.0, 1e-30, 0.5, 2.0, math.inf, math.nan])


@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.data())
def test_overlap_is_what_counting_pixels_gives(
    steps: int, batch: int, height: int, width: int, data: st.DataObject
) -> None:
    shape = (steps, batch, 1, height, width)
    size = math.prod(shape)

    def values(each: Any) -> Tensor:
        return torch.tensor(data.draw(st.lists(each, min_size=size, max_size=size)), dtype=torch.float32).view(shape)

    logits, objects = values(LOGITS), values(st.sampled_from([0.0, 1.0]))
    wanted = torch.tensor(data.draw(st.lists(st.booleans(), min_size=steps * batch, max_size=steps * batch)))
    target = objects * wanted.view(steps, batch, 1, 1, 1)
    found = overlap(logits.numpy(), target.numpy(), objects.numpy())
    assert found.shape == (steps, batch)
    assert found.dtype == np.float64
    for t in range(steps):
        for b in range(batch):
            arrays = (each[t, b].numpy() for each in (logits, target, objects))
            assert found[t, b] == pytest.approx(pixel_by_pixel(*arrays))


def test_overlap_by_hand() -> None:
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 1, 1, 2, 2)
    none = torch.zeros_like(mask)

    def earned(logits: list[float], target: Tensor) -> float:
        return float(overlap(np.array(logits).reshape(1, 1, 1, 2, 2), target.numpy(), mask.numpy())[0, 0])

    assert earned([1, 1, -1, -1], mask) == 1
    assert earned([1, 1, 1, 1], mask) == 0.5, "everything: half of it is right"
    assert earned([-1, -1, -1, -1], mask) == 0
    assert earned([1, -1, 1, -1], mask) == pytest.approx(1 / 3)
    assert earned([0, 0, 0, 0], mask) == 0, "a logit of 0 is background"
    assert earned([1, math.nan, -1, math.nan], mask) == pytest.approx(1 / 3)
    assert earned([-1, -1, 5, 5], none) == 1, "only what is predicted on the distractor's object counts"
    assert earned([1, -1, -1, -1], none) == 0.5
    assert earned([0, 0, 1, 1], none) == 1
    assert earned([math.nan, -1, -1, -1], none) == 0.5


class Painter(Method):
    """Marks all (logit 1), nothing (-1), or the object that the image shows, of whatever class it is."""

    kinds = SEGMENTATION

    def __init__(self, task: Any, what: str) -> None:
        super().__init__(task)
        self.what = what

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes, 1)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        if self.what == "objects":
            return drawn_on(x.unsqueeze(0))[0] - 0.5, state
        return torch.full_like(x[:, :1], 1.0 if self.what == "all" else -1.0), state


@pytest.mark.parametrize("distractor", [True, False])
def test_marking_all_nothing_or_every_object_earns_what_it_should(distractor: bool) -> None:
    protocol = of_kind("segmentation_distractors", "scenes", scored=(0, 2), presentations=3, distractor=distractor)
    found = SOURCES[True].episodes(protocol, "test", 0, range(20))
    assert found.objects is not None
    area = 100 * float(found.objects.mean((2, 3, 4))[torch.from_numpy(found.plan.target.T == 0)].mean())
    for what, iou, masking in (("all", area, 0.0), ("nothing", 0.0, 100.0), ("objects", 100.0, 0.0)):
        method = Painter(task_for(Painter, protocol, (3, 64, 64)), what)
        scores = score(protocol, score_batch(method, found), found.plan)
        values = {name: value[0] for name, value in metrics(protocol, scores).items()}
        # 3 presentations, of which two are scored: the mean area of those differs a little.
        assert values["iou"] == pytest.approx(iou, abs=1)
        assert ("masking" in values) == ("joint" in values) == distractor
        if distractor:
            assert values["masking"] == masking
            assert values["joint"] == pytest.approx((values["iou"] + masking) / 2)
