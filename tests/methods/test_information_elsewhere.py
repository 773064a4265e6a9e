"""No learner without parameters earns more than its information allows, on the shipped protocols without streams.

As in test_information.py: images are noise, so that labels (or masks) alone can earn anything, and what they are
worth is counted exactly.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import comb
from typing import Any

import numpy as np
import pytest

from harness.data.dataset import Dataset, card_table
from harness.episodes.plan import QUERY
from harness.episodes.source import EpisodeSource
from harness.evaluation.rollout import score_batch
from harness.evaluation.score import Scores, metrics, score
from harness.method.registry import load_method, task_for
from harness.protocol.load import load_protocol
from harness.protocol.models import (
    KINDS,
    AnyProtocol,
    Continual,
    DelayedLabel,
    OnlineFewShot,
    SegmentationDistractors,
)
from harness.util.errors import UserError
from harness.util.shipped_files import protocol_files
from methods import BUILT_IN
from methods.nn.untrained import Untrained
from tests.helpers.built_in import LABELS_ALONE
from tests.helpers.protocols import protocol_as

pytestmark = pytest.mark.slow

EPISODES, SIGMAS = 300, 4.5
SHIPPED: dict[str, AnyProtocol] = {name: load_protocol(name).protocol for name in sorted(protocol_files())}
CONTINUAL = [name for name, each in SHIPPED.items() if each.kind == "continual"]
K_SHOT = [name for name, each in SHIPPED.items() if each.kind == "n_way_k_shot"]
SUPERVISED = [name for name, each in SHIPPED.items() if each.kind == "supervised"]
MASKS = [name for name, each in SHIPPED.items() if each.kind == "segmentation_distractors"]


@cache
def source_of_noise(name: str) -> EpisodeSource:
    """Test images of noise that say nothing about their class; every object has one and the same mask."""
    card = SHIPPED[name].card
    card = replace(card, image_shape=(card.image_shape[0], 4, 4))
    table = card_table(card, "test")
    count = len(table.members)
    pixels = np.random.default_rng(7).integers(0, 256, (count, *card.image_shape), np.uint8)
    mask = np.zeros((count, 1, 4, 4), np.uint8)
    mask[:, :, 1:3, :2] = 1
    tables = {"test": table}
    dataset = Dataset(
        card, pixels, tuple(map(str, range(count))), tables, "none", "noise", mask if card.masks else None
    )
    return EpisodeSource(dataset)


@cache
def scored(method: str, name: str) -> tuple[Any, Scores]:
    """The plan of the first test episodes of a protocol, and the scores of a method on them."""
    protocol, cls = SHIPPED[name], load_method(method).cls
    channels, height, width = source_of_noise(name).dataset.card.image_shape
    built = cls(task_for(cls, protocol, (channels, height, width), protocol.card.classes["train"]))
    episodes = source_of_noise(name).episodes(protocol, "test", 0, range(EPISODES))
    return episodes.plan, score(protocol, score_batch(built, episodes), episodes.plan)


def departure(earned: np.ndarray, expected: float) -> float:
    """How many standard errors the mean over episodes [E] lies above what is expected."""
    return (earned.mean() - expected) / (earned.var(ddof=1) / len(earned) + len(earned) ** -2.0) ** 0.5


def test_every_kind_without_a_stream_of_scored_steps_is_covered() -> None:
    listed = {*CONTINUAL, *K_SHOT, *SUPERVISED, *MASKS}
    assert listed == {name for name, each in SHIPPED.items() if not isinstance(each, OnlineFewShot | DelayedLabel)}
    assert {SHIPPED[name].kind for name in listed} == set(KINDS) - {"online_few_shot", "delayed_label"}


# Queries


@pytest.mark.parametrize("name", [*CONTINUAL, *K_SHOT])
@pytest.mark.parametrize("method", LABELS_ALONE)
def test_labels_alone_are_worth_one_in_ways_in_every_episode(method: str, name: str) -> None:
    """Support sets and queries are balanced, so that no count helps and any one answer is right equally often."""
    plan, scores = scored(method, name)
    np.testing.assert_allclose(scores["by_query"].mean(1), 1 / plan.classes.shape[1], atol=1e-12)


@pytest.mark.parametrize("name", CONTINUAL)
def test_copying_the_newest_label_earns_exactly_the_last_subtask(name: str) -> None:
    protocol = protocol_as(Continual, name)
    _, scores = scored("copy_last", name)
    found = metrics(protocol, scores)
    assert found["query_accuracy@last"][:2] == (100, 0)
    assert found["query_accuracy@earlier"][:2] == (0, 0)
    assert found["query_accuracy"][0] == pytest.approx(100 / protocol.episode.subtasks)


@pytest.mark.parametrize("name", [*CONTINUAL, *K_SHOT])
def test_the_nearest_image_of_noise_is_any_class_whether_shown_early_or_late(name: str) -> None:
    plan, scores = scored("nearest_pixel", name)
    ways = plan.classes.shape[1]
    assert abs(departure(scores["by_query"].mean(1), 1 / ways)) < SIGMAS
    for earned in scores["by_subtask"].T if "by_subtask" in scores else []:
        assert abs(departure(earned, 1 / ways)) < SIGMAS


@pytest.mark.parametrize("name", [*CONTINUAL, *K_SHOT])
def test_the_place_of_a_query_tells_nothing_of_its_class(name: str) -> None:
    """Of two neighbouring queries one has the other's class as often as any two of them do."""
    plan, _ = scored("chance", name)
    queried = plan.target[:, plan.phase == QUERY]
    ways, each = plan.classes.shape[1], queried.shape[1] // plan.classes.shape[1]
    same = (queried[:, 1:] == queried[:, :-1]).mean(1)
    assert abs(departure(same, (each - 1) / (ways * each - 1))) < SIGMAS
    assert abs(departure((queried[:, 0] == plan.target[:, plan.first_query - 1]).astype(float), 1 / ways)) < SIGMAS


# Supervised


@pytest.mark.parametrize("name", SUPERVISED)
def test_without_any_label_there_is_only_chance(name: str) -> None:
    protocol = SHIPPED[name]
    classes = protocol.card.classes["train"]
    _, scores = scored("chance", name)
    np.testing.assert_allclose(scores["right"], 1 / classes)
    for method in ("majority", "copy_last", "count", "nearest_pixel"):
        with pytest.raises(UserError, match="does not run on protocols of kind supervised"):
            task_for(load_method(method).cls, protocol, (3, 4, 4), classes)


# Masks. All objects have one mask, so that whoever answers with it on a target earns 1 and on a distractor 0.


def mask_protocol(name: str) -> SegmentationDistractors:
    return protocol_as(SegmentationDistractors, name)


def both_ways(name: str) -> bool:
    return mask_protocol(name).episode.distractor


@pytest.mark.parametrize("name", MASKS)
def test_answers_that_never_change_earn_what_the_mask_covers_or_hides(name: str) -> None:
    everything, nothing = scored("all_foreground", name)[1], scored("all_background", name)[1]
    assert (everything["iou"] == 4 / 16).all()
    assert (everything["masking"] == 0).all()
    assert (nothing["iou"] == 0).all()
    assert (nothing["masking"] == 1).all()
    if both_ways(name):
        assert metrics(SHIPPED[name], everything)["joint"][:2] == (12.5, 0)
        assert metrics(SHIPPED[name], nothing)["joint"][:2] == (50, 0)


@pytest.mark.parametrize("name", MASKS)
def test_copying_the_newest_mask_earns_what_the_order_is_worth(name: str) -> None:
    """It is right about a target after a target, and hides a distractor after a distractor or at the very start."""
    presentations = mask_protocol(name).episode.presentations
    _, scores = scored("copy_last_mask", name)
    if not both_ways(name):
        assert (scores["iou"] == np.arange(presentations).clip(max=1)).all()
        return
    # Of 2n presentations in random order, neighbours are both targets in (n - 1) / (2 (2n - 1)) of the 2n - 1 places.
    assert abs(departure(scores["iou"].sum(1), (presentations - 1) / 2)) < SIGMAS
    assert abs(departure(scores["masking"].sum(1), 1 / 2 + (presentations - 1) / 2)) < SIGMAS


@pytest.mark.parametrize("name", MASKS)
def test_the_mean_mask_marks_every_image_once_an_object_was_revealed(name: str) -> None:
    presentations = mask_protocol(name).episode.presentations
    _, scores = scored("mean_mask", name)
    assert (scores["iou"] == np.arange(presentations).clip(max=1)).all()
    if both_ways(name):
        # A distractor is hidden as long as all presentations before it were distractors too.
        for k, earned in enumerate(scores["masking"].T):
            expected = comb(2 * presentations - k - 1, presentations) / comb(2 * presentations, presentations)
            assert abs(departure(earned, expected)) < SIGMAS, f"{k}-shot"


def test_all_learners_without_parameters_are_here() -> None:
    """A new one must be given its worth."""
    plain = {name for name in BUILT_IN if issubclass(load_method(name).cls, Untrained)}
    assert plain == {*LABELS_ALONE, "nearest_pixel", "all_foreground", "all_background", "copy_last_mask", "mean_mask"}
