"""What a method costs: growth of its state with the stream and with the label delay."""

from __future__ import annotations

import dataclasses

import pytest

from harness.data.dataset import card_table
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.evaluation.cost import measured_cost
from harness.method.interface import Method
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.models import PROTOCOL, AnyProtocol

FLOAT, LABEL = 4, 8
PIXELS = 28 * 28


def stream(delay: int) -> AnyProtocol:
    late = {"label_delay": delay} if delay > 1 else {}
    return PROTOCOL.validate_python(
        {
            "kind": "delayed_label" if delay > 1 else "online_few_shot",
            "title": "x",
            "dataset": "omniglot",
            "episode": {"ways": 2, "presentations": 4, **late},
            "scoring": {"shots": [1]},
        }
    )


def support() -> AnyProtocol:
    return PROTOCOL.validate_python(
        {
            "kind": "n_way_k_shot",
            "title": "x",
            "dataset": "omniglot",
            "episode": {"ways": 2, "shots": 2, "queries": 1},
        }
    )


def planned(protocol: AnyProtocol) -> EpisodePlan:
    return plan_episodes(protocol, card_table(protocol.card, "test"), "test", 0, [0])


def pair(name: str, protocol: AnyProtocol, **options: object) -> tuple[Method, Method]:
    """A method, and one like it that is told one more step of label delay if it is told any."""
    cls = load_method(name).cls
    task = task_for(cls, protocol, protocol.card.image_shape)
    method = build_method(cls, task, options, seed=0)
    if task.label_delay is None:
        return method, method
    return method, build_method(cls, dataclasses.replace(task, label_delay=task.label_delay + 1), options, seed=0)


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_prototypes_keep_one_pending_feature_more_for_each_step_of_delay(delay: int) -> None:
    protocol = stream(delay)
    method, later = pair("opn", protocol, channels=8)
    cost = measured_cost(method, planned(protocol), later)
    assert cost.state_growth == "constant"
    assert cost.growth_bytes_per_delay == 8 * FLOAT


def test_a_recurrent_learner_does_not_grow_with_the_delay() -> None:
    protocol = stream(2)
    method, later = pair("cl_lstm", protocol, channels=4, lstm=8)
    assert later is method
    cost = measured_cost(method, planned(protocol), later)
    assert (cost.growth_bytes_per_step, cost.growth_bytes_per_delay) == (0.0, 0.0)


def test_what_keeps_every_image_grows_with_the_stream() -> None:
    protocol = stream(1)
    method, later = pair("nearest_pixel", protocol)
    cost = measured_cost(method, planned(protocol), later)
    assert cost.growth_bytes_per_step >= PIXELS * FLOAT
    assert cost.growth_bytes_per_delay is not None


def test_support_sets_have_no_delay_to_grow_with() -> None:
    protocol = support()
    method, later = pair("opn", protocol, channels=8)
    assert measured_cost(method, planned(protocol), later).growth_bytes_per_delay is None
