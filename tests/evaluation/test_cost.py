"""What a method costs: growth of its state with the stream and with the label delay."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest
import torch

from harness.data.dataset import card_table
from harness.episodes.plan import EpisodePlan, plan_episodes
from harness.evaluation import cost
from harness.evaluation.cost import measured_cost
from harness.evaluation.operations import Operations
from harness.evaluation.rollout import one_step
from harness.method.interface import Feedback, Method, Task
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


def place(device: str) -> cost._Place:
    return cost._Place(torch.device(device), Operations())


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
    found = measured_cost(method, planned(protocol), later)
    assert found.state_growth == "constant"
    assert found.growth_bytes_per_delay == 8 * FLOAT


def test_a_recurrent_learner_does_not_grow_with_the_delay() -> None:
    protocol = stream(2)
    method, later = pair("cl_lstm", protocol, channels=4, lstm=8)
    assert later is method
    found = measured_cost(method, planned(protocol), later)
    assert (found.growth_bytes_per_step, found.growth_bytes_per_delay) == (0.0, 0.0)


def test_what_keeps_every_image_grows_with_the_stream() -> None:
    protocol = stream(1)
    method, later = pair("nearest_pixel", protocol)
    found = measured_cost(method, planned(protocol), later)
    assert found.growth_bytes_per_step >= PIXELS * FLOAT
    assert found.growth_bytes_per_delay is not None


def test_support_sets_have_no_delay_to_grow_with() -> None:
    protocol = support()
    method, later = pair("opn", protocol, channels=8)
    assert measured_cost(method, planned(protocol), later).growth_bytes_per_delay is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "protocol", "options"),
    [
        ("cl_lstm", stream(1), {"channels": 4, "lstm": 8}),
        ("lstm", stream(1), {}),
        ("transformer", stream(2), {"channels": 8, "width": 16, "layers": 1}),
        ("opn", stream(3), {"channels": 8}),
        ("norml", support(), {"channels": 4}),
    ],
)
def test_shapes_alone_have_the_cost_that_computing_has(name: str, protocol: AnyProtocol, options: Any) -> None:
    method, later = pair(name, protocol, **options)
    plan = planned(protocol)
    on_shapes, computed = (cost._measured(method, plan, later, place(device)) for device in ("meta", "cpu"))
    assert on_shapes == computed
    assert on_shapes.gflop_per_step > 0


class Looks(Method):
    """Multiplies matrices after a value of the input, so that it has no cost without values."""

    kinds = ("online_few_shot",)

    def start(self, episodes: int) -> torch.Tensor:
        return torch.zeros(episodes, 1)

    def observe(self, state: torch.Tensor, feedback: Feedback) -> torch.Tensor:
        return state

    def predict(self, state: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.sum() == 0:
            x.flatten(1) @ torch.zeros(PIXELS, 3)
        return torch.zeros(len(x), self.task.ways), state


def test_a_method_that_looks_at_values_is_measured_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Looks(Task(2, (1, 28, 28), "online_few_shot"))
    for work in (cost.FEW_KERNELS, 1):
        monkeypatch.setattr(cost, "FEW_KERNELS", work)
        assert measured_cost(method, planned(stream(1))).gflop_per_step * 1e9 == pytest.approx(2 * PIXELS * 3)


@pytest.mark.parametrize("bound", ["LITTLE_WORK", "FEW_KERNELS"])
def test_steps_from_states_of_the_same_shapes_are_taken_once_where_they_are_much_work(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, _ = pair("opn", stream(1), channels=8)
    devices: list[str] = []

    def counted(method: Method, episodes: Any, feedback: torch.Tensor, t: int, state: Any) -> Any:
        devices.append(episodes.x.device.type)
        return one_step(method, episodes, feedback, t, state)

    monkeypatch.setattr(cost, "one_step", counted)
    here = measured_cost(method, planned(stream(1)))
    assert set(devices) == {"cpu"}
    devices.clear()
    monkeypatch.setattr(cost, bound, 500)  # a step or two
    assert measured_cost(method, planned(stream(1))) == here
    assert devices.count("meta") <= 2
    assert devices.count("cpu") <= cost.SURE_STEPS


def test_a_method_that_catches_what_stops_the_count_is_counted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Catches(Looks):
        def predict(self, state: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            for _ in range(2):
                with contextlib.suppress(Exception):
                    x.flatten(1) @ torch.zeros(PIXELS, 3)
            return torch.zeros(len(x), self.task.ways), state

    method = Catches(Task(2, (1, 28, 28), "online_few_shot"))
    monkeypatch.setattr(cost, "LITTLE_WORK", 2 * PIXELS * 3)
    assert measured_cost(method, planned(stream(1))).gflop_per_step * 1e9 == pytest.approx(2 * 2 * PIXELS * 3)


def test_counting_draws_no_random_numbers_of_the_process() -> None:
    class Draws(Looks):
        def predict(self, state: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.rand(len(x), self.task.ways), state

    before = torch.get_rng_state()
    measured_cost(Draws(Task(2, (1, 28, 28), "online_few_shot")), planned(stream(1)))
    assert torch.equal(torch.get_rng_state(), before)
