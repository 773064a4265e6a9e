"""Scores against counting by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from harness.data.cards import CARDS
from harness.data.dataset import card_table
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.evaluation.score import curves, first, joined, metrics, score
from harness.evaluation.score.credit import credit
from harness.protocol.models import DelayedLabel, OnlineFewShot, StreamProtocol
from harness.testing import protocols
from tests.helpers.plans import of_kind
from tests.helpers.protocols import validated_as

TEST = card_table(CARDS["cifar_fs"], "test")


def a_protocol(**episode: object) -> StreamProtocol:
    kind = "delayed_label" if "label_delay" in episode else "online_few_shot"
    shape = {"ways": 3, "presentations": 4, **episode}
    content = {"kind": kind, "title": "t", "dataset": "cifar_fs", "episode": shape, "scoring": {"shots": [1, 3]}}
    return validated_as(DelayedLabel, content) if "label_delay" in episode else validated_as(OnlineFewShot, content)


def test_credit_is_shared_among_ties() -> None:
    logits = np.array([[[1.0, 3.0, 2.0]], [[3.0, 3.0, 2.0]], [[0.0, 0.0, 0.0]], [[np.nan, 1.0, 0.0]]])
    assert credit(logits, np.array([[1], [0], [2], [1]]))[:, 0].tolist() == [1.0, 0.5, 1 / 3, 0.0]
    assert credit(logits, np.array([[0], [2], [0], [0]]))[:, 0].tolist() == [0.0, 0.0, 1 / 3, 0.0]


@pytest.mark.parametrize("episode", [{}, {"order": "iid"}, {"label_delay": 4}, {"label_delay": 3, "order": "iid"}])
def test_metrics_are_what_counting_step_by_step_gives(episode: dict[str, object]) -> None:
    protocol = a_protocol(**episode)
    plan = plan_episodes(protocol, TEST, "test", 0, range(40))
    earned = np.random.default_rng(0).choice([0.0, 0.5, 1.0], size=(12, 40))
    found = metrics(protocol, score(protocol, earned, plan))
    by_shot: dict[int, list[float]] = {1: [], 3: []}
    by_revealed: dict[int, list[float]] = {1: [], 3: []}
    overall, nonfirst = [], []
    delay = getattr(protocol.episode, "label_delay", 1)
    for b in range(40):
        rows = []
        for t in range(12):
            before = [i for i in range(t) if plan.target[b, i] == plan.target[b, t]]
            rows.append((len(before), len([i for i in before if i + delay <= t]), earned[t, b]))
        means = []
        for k in (1, 3):
            for column, into in ((0, by_shot), (1, by_revealed)):
                values = [row[2] for row in rows if row[column] == k]
                if values:
                    into[k].append(100 * float(np.mean(values)))
                    means += [into[k][-1]] if column == 0 else []
        iid = episode.get("order") == "iid"
        overall.append(100 * float(earned[:, b].mean()) if iid else float(np.mean(means)))
        nonfirst.append(100 * float(np.mean([row[2] for row in rows if row[0] > 0])))
    expected = {
        "accuracy@shot=1": by_shot[1],
        "accuracy@shot=3": by_shot[3],
        "accuracy": overall,
        "accuracy@nonfirst": nonfirst,
    }
    if delay > 1:
        expected |= {f"accuracy@revealed={k}": by_revealed[k] for k in (1, 3) if by_revealed[k]}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        mean, interval, episodes = found[name]
        assert episodes == len(values)
        assert mean == pytest.approx(np.mean(values))
        assert interval == pytest.approx(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))


def test_scores_of_batches_join_into_those_of_the_whole() -> None:
    protocol = a_protocol()
    earned = np.random.default_rng(1).random((12, 10))
    whole = score(protocol, earned, plan_episodes(protocol, TEST, "test", 0, range(10)))
    parts = [
        score(protocol, earned[:, part], plan_episodes(protocol, TEST, "test", 0, range(10)[part]))
        for part in (slice(0, 3), slice(3, 10))
    ]
    for name, values in joined(parts).items():
        assert np.array_equal(values, whole[name])
    assert first(whole, 4)["by_step"].shape == (4, 12)


def test_curves_are_means_by_step_and_by_shot() -> None:
    protocol = a_protocol()
    plan = plan_episodes(protocol, TEST, "test", 0, range(5))
    earned = np.random.default_rng(2).random((12, 5))
    found = curves(protocol, score(protocol, earned, plan))
    assert found["by_step"] == pytest.approx(100 * earned.mean(1), abs=1e-4)
    assert found["by_shot"] == pytest.approx([100 * earned.T[plan.shot == k].mean() for k in range(4)], abs=1e-4)


def test_where_episodes_have_shots_of_their_own_a_curve_and_its_metric_are_one_mean() -> None:
    protocol = a_protocol(order="iid")
    plan = plan_episodes(protocol, TEST, "test", 0, range(40))
    scores = score(protocol, np.random.default_rng(2).random((12, 40)), plan)
    assert len(np.unique(scores["count"][:, 3])) > 2, "a pooled mean would be another"
    assert curves(protocol, scores)["by_shot"][3] == pytest.approx(metrics(protocol, scores)["accuracy@shot=3"][0])


# Kinds with queries, with masks, and of single images.


def earned_at_random(plan: EpisodePlan, seed: int = 0) -> np.ndarray:
    """What answers to a plan might earn, [T, B]; NaN at support pairs."""
    values = np.random.default_rng(seed).choice([0.0, 0.5, 1.0], size=plan.target.T.shape)
    return np.where(plan.answer_mask[:, None], values, np.nan)


def check(found: dict[str, tuple[float, float, int]], expected: dict[str, list[float]]) -> None:
    """The metrics are means and intervals over these values of episodes (shares)."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        mean, interval, episodes = found[name]
        assert episodes == len(values)
        assert mean == pytest.approx(100 * np.mean(values))
        assert interval == pytest.approx(196 * np.std(values, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("subtasks", [1, 4])
def test_continual_scores_are_what_counting_query_by_query_gives(subtasks: int) -> None:
    protocol = of_kind("continual", subtasks=subtasks, shots=3, queries=5)
    plan = plan_episodes(protocol, TEST, "test", 0, range(30))
    earned, first_query = earned_at_random(plan), 3 * subtasks
    expected: dict[str, list[float]] = {"query_accuracy": []}
    if subtasks > 1:
        expected |= {"query_accuracy@earlier": [], "query_accuracy@last": []}
    by_subtask = []
    for b in range(30):
        order = list(dict.fromkeys(plan.target[b, :first_query].tolist()))  # numbers in the order of the stream
        per_order: dict[int, list[float]] = {number: [] for number in order}
        for t in range(first_query, plan.steps):
            per_order[int(plan.target[b, t])].append(earned[t, b])
        assert [len(each) for each in per_order.values()] == [5] * subtasks
        means = [float(np.mean(each)) for each in per_order.values()]
        by_subtask.append(means)
        expected["query_accuracy"].append(float(np.mean(means)))
        if subtasks > 1:
            expected["query_accuracy@earlier"].append(float(np.mean(means[:-1])))
            expected["query_accuracy@last"].append(means[-1])
    scores = score(protocol, earned, plan)
    check(metrics(protocol, scores), expected)
    assert curves(protocol, scores)["by_subtask"] == pytest.approx(100 * np.mean(by_subtask, axis=0), abs=1e-4)


def test_answers_along_a_continual_stream_earn_nothing() -> None:
    protocol = of_kind("continual", subtasks=3, shots=2, queries=2)
    plan = plan_episodes(protocol, TEST, "test", 0, range(4))
    earned = earned_at_random(plan)
    other = np.where((np.arange(plan.steps) < plan.first_query)[:, None], 1 - earned, earned)
    one, two = (metrics(protocol, score(protocol, each, plan)) for each in (earned, other))
    assert one == two


def test_k_shot_accuracy_is_the_mean_over_queries() -> None:
    protocol = of_kind("n_way_k_shot", ways=3, shots=2, queries=4)
    plan = plan_episodes(protocol, TEST, "test", 0, range(30))
    earned = earned_at_random(plan)
    scores = score(protocol, earned, plan)
    check(metrics(protocol, scores), {"query_accuracy": [float(np.mean(earned[6:, b])) for b in range(30)]})
    assert curves(protocol, scores) == {}


@pytest.mark.parametrize("distractor", [True, False])
def test_masks_are_scored_by_shot_of_their_own_class(distractor: bool) -> None:
    protocol = of_kind("segmentation_distractors", scored=(1, 3), presentations=4, distractor=distractor)
    plan = plan_episodes(protocol, TEST, "test", 0, range(30))
    earned = earned_at_random(plan)
    by_shot: dict[tuple[int, int], list[float]] = {}
    for b in range(30):
        shown = [0, 0]
        for t, role in enumerate(plan.target[b].tolist()):
            by_shot.setdefault((role, shown[role]), []).append(earned[t, b])
            shown[role] += 1
    of_target = {k: by_shot[0, k] for k in range(4)}
    expected = {"iou@shot=1": of_target[1], "iou@shot=3": of_target[3]}
    expected["iou"] = [float(np.mean(each)) for each in zip(of_target[1], of_target[3], strict=True)]
    if distractor:
        of_distractor = {k: by_shot[1, k] for k in range(4)}
        expected |= {f"masking@shot={k}": of_distractor[k] for k in (1, 3)}
        expected["masking"] = [float(np.mean(each)) for each in zip(of_distractor[1], of_distractor[3], strict=True)]
        for k in (1, 3):
            both = zip(of_target[k], of_distractor[k], strict=True)
            expected[f"joint@shot={k}"] = [float(np.mean(each)) for each in both]
        both = zip(expected["iou"], expected["masking"], strict=True)
        expected["joint"] = [float(np.mean(each)) for each in both]
    scores = score(protocol, earned, plan)
    check(metrics(protocol, scores), expected)
    found = curves(protocol, scores)
    assert found["iou_by_shot"] == pytest.approx([100 * np.mean(of_target[k]) for k in range(4)], abs=1e-4)
    assert ("masking_by_shot" in found) == distractor
    if distractor:
        wanted = [100 * np.mean(by_shot[1, k]) for k in range(4)]
        assert found["masking_by_shot"] == pytest.approx(wanted, abs=1e-4)


def test_supervised_accuracy_is_the_mean_over_images() -> None:
    protocol = of_kind("supervised")
    plan = plan_episodes(protocol, TEST, "test", 0, range(40))
    earned = earned_at_random(plan)
    scores = score(protocol, earned, plan)
    check(metrics(protocol, scores), {"accuracy": earned[0].tolist()})
    assert curves(protocol, scores) == {}


@given(protocols())
def test_every_kind_measures_what_its_board_ranks_and_reports(protocol: Any) -> None:
    plan = plan_episodes(protocol, TEST, "test", 0, range(60))
    found = metrics(protocol, score(protocol, earned_at_random(plan), plan))
    assert protocol.ranking in found
    # Shots that no episode reaches in drawn order, and parts of one subtask alone, are left out.
    if getattr(protocol.episode, "order", "") != "iid" and getattr(protocol.episode, "subtasks", 2) > 1:
        assert set(protocol.reported) <= set(found)


@given(protocols())
def test_scores_of_any_kind_join_into_those_of_the_whole(protocol: Any) -> None:
    plan = plan_episodes(protocol, TEST, "test", 0, range(5))
    earned = earned_at_random(plan)
    whole = score(protocol, earned, plan)
    parts = [
        score(protocol, earned[:, part], plan_episodes(protocol, TEST, "test", 0, range(5)[part]))
        for part in (slice(0, 2), slice(2, 5))
    ]
    for name, values in joined(parts).items():
        assert values.dtype == np.float64
        assert len(values) == 5
        assert np.array_equal(values, whole[name])
        assert np.array_equal(first(whole, 3)[name], values[:3])
