"""Scores against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.plan import plan_episodes
from harness.score import curves, first, joined, metrics, score
from harness.score.earned import credit
from harness.spec import PROTOCOL, StreamProtocol
from harness.testing import card_table


def a_protocol(**episode: object) -> StreamProtocol:
    kind = "delayed_label" if "label_delay" in episode else "online_few_shot"
    shape = {"ways": 3, "presentations": 4, **episode}
    return PROTOCOL.validate_python(
        {"kind": kind, "title": "t", "dataset": "cifar_fs", "episode": shape, "scoring": {"shots": [1, 3]}}
    )


def test_credit_is_shared_among_ties() -> None:
    logits = torch.tensor([[[1.0, 3.0, 2.0]], [[3.0, 3.0, 2.0]], [[0.0, 0.0, 0.0]], [[float("nan"), 1.0, 0.0]]])
    assert credit(logits, torch.tensor([[1], [0], [2], [1]]))[:, 0].tolist() == [1.0, 0.5, 1 / 3, 0.0]
    assert credit(logits, torch.tensor([[0], [2], [0], [0]]))[:, 0].tolist() == [0.0, 0.0, 1 / 3, 0.0]


@pytest.mark.parametrize("episode", [{}, {"order": "iid"}, {"label_delay": 4}, {"label_delay": 3, "order": "iid"}])
def test_metrics_are_what_counting_step_by_step_gives(episode: dict[str, object]) -> None:
    protocol = a_protocol(**episode)
    plan = plan_episodes(protocol, card_table("cifar_fs", "test"), "test", 0, range(40))
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
    table = card_table("cifar_fs", "test")
    earned = np.random.default_rng(1).random((12, 10))
    whole = score(protocol, earned, plan_episodes(protocol, table, "test", 0, range(10)))
    parts = [
        score(protocol, earned[:, part], plan_episodes(protocol, table, "test", 0, range(10)[part]))
        for part in (slice(0, 3), slice(3, 10))
    ]
    for name, values in joined(parts).items():
        assert np.array_equal(values, whole[name])
    assert first(whole, 4)["by_step"].shape == (4, 12)


def test_curves_are_means_by_step_and_by_shot() -> None:
    protocol = a_protocol()
    plan = plan_episodes(protocol, card_table("cifar_fs", "test"), "test", 0, range(5))
    earned = np.random.default_rng(2).random((12, 5))
    found = curves(protocol, score(protocol, earned, plan))
    assert found["by_step"] == pytest.approx(100 * earned.mean(1), abs=1e-4)
    assert found["by_shot"] == pytest.approx([100 * earned.T[plan.shot == k].mean() for k in range(4)], abs=1e-4)
