"""What gradient learners share, with a learner whose steps can be followed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.method.interface import Feedback, State, Task
from methods.nn.gradient_learner import GradientLearner, pool, stream_logits
from tests.helpers.stepping import delayed, stepped

STEPS, EPISODES = 6, 2


class Decaying(GradientLearner):
    """w <- w / 2 + (y + 1) x on pixels x; the logit of x is w x. The order of steps and their pairing show in w."""

    def __init__(self, delay: int | None, fits: bool = False) -> None:
        super().__init__(Task(1, (1, 1, 1), "n_way_k_shot" if fits else "delayed_label", delay))
        self.initial_weight = nn.Parameter(torch.ones(1))
        self.fits_support_set, self.fitted = fits, list[int]()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (1,)

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(2)

    def initial(self, episodes: int) -> State:
        return {"weight": self.initial_weight.expand(episodes, 1)}

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        known = (target >= 0).float()
        return {"weight": torch.where(known > 0, state["weight"] / 2 + (target + 1) * samples[:, 0], state["weight"])}

    def fit(self, samples: Tensor, labels: Tensor) -> State:
        self.fitted.append(len(samples))
        return {"weight": self.learn_all(self.initial(len(samples)), samples, labels)["weight"]}

    def episodes_at_once(self, images: int) -> int | None:
        return 3 if images == STEPS else None

    def answer(self, state: State, samples: Tensor) -> Tensor:
        return state["weight"].unsqueeze(1) * samples


def pixels(episodes: int = EPISODES) -> tuple[Tensor, Tensor]:
    """Images [T, B, 1, 1, 1] and their labels [T, B]."""
    x = torch.arange(1.0, STEPS * episodes + 1).view(STEPS, episodes, 1, 1, 1)
    return x, torch.arange(STEPS * episodes).view(STEPS, episodes) % 3


def by_hand(x: Tensor, target: Tensor) -> list[float]:
    """w of one episode before the first label and after each."""
    weights = [1.0]
    for image, label in zip(x.flatten().tolist(), target.tolist(), strict=True):
        weights.append(weights[-1] / 2 + (label + 1) * image)
    return weights


@pytest.mark.parametrize("delay", [1, 2, 4])
def test_every_label_is_a_step_on_the_sample_of_delay_steps_ago(delay: int) -> None:
    net, (x, target) = Decaying(delay), pixels()
    logits, state = stepped(net, x, delayed(target, delay))
    for b in range(EPISODES):
        weights = by_hand(x[:, b], target[:, b])
        wanted = [weights[max(0, t + 1 - delay)] * float(x[t, b]) for t in range(STEPS)]
        assert logits[:, b, 0].tolist() == pytest.approx(wanted)
        assert state["pending"][b, :, 0].tolist() == x[STEPS - delay :, b].flatten().tolist()


@pytest.mark.parametrize("delay", [1, 2, 4])
@pytest.mark.parametrize("first", [1, 3, STEPS])
def test_absorbing_a_stream_in_parts_gives_the_state_of_stepping(delay: int, first: int) -> None:
    net, (x, target) = Decaying(delay), pixels()
    feedback = delayed(target, delay)
    state = net.absorb(net.start(EPISODES), x[:first], Feedback(feedback[:first]))
    state = net.absorb(state, x[first:], Feedback(feedback[first:])) if first < STEPS else state
    torch.testing.assert_close(state, stepped(net, x, feedback)[1])


def test_support_pairs_are_a_step_each_and_leave_what_is_pending() -> None:
    net, (x, target) = Decaying(2), pixels()
    state = net.start(EPISODES)
    for image, label in zip(x, target, strict=True):
        state = net.observe(state, Feedback(label, image))
    torch.testing.assert_close(net.absorb(net.start(EPISODES), x, Feedback(target, x)), state)
    assert state["weight"][:, 0].tolist() == [by_hand(x[:, b], target[:, b])[-1] for b in range(EPISODES)]
    assert not state["pending"].any()


def test_a_support_set_is_stored_and_then_fitted_a_few_episodes_at_a_time() -> None:
    net, (x, target) = Decaying(None, fits=True), pixels(7)
    stored = net.start(7)
    for image, label in zip(x, target, strict=True):
        stored = net.observe(stored, Feedback(label, image))
    torch.testing.assert_close(net.absorb(net.start(7), x, Feedback(target, x)), stored)
    assert stored["samples"].shape == (7, STEPS, 1)
    state = net.adapt(stored)
    assert net.fitted == [3, 2, 2]
    assert set(state) == {"weight"}
    assert state["weight"][:, 0].tolist() == [by_hand(x[:, b], target[:, b])[-1] for b in range(7)]
    assert net.adapt(state) is state
    queries = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1, 1).expand(7, -1, -1, -1, -1)
    torch.testing.assert_close(net.query(state, queries)[..., 0], state["weight"] * torch.tensor([2.0, -1.0]))


def test_a_graph_through_the_steps_is_recorded_in_training_alone() -> None:
    net, (x, target) = Decaying(1), pixels()
    assert stepped(net.train(), x, delayed(target, 1))[0].requires_grad
    assert not stepped(net.eval(), x, delayed(target, 1))[0].requires_grad


@pytest.mark.parametrize(("delay", "passes"), [(1, STEPS), (2, 2 * STEPS - 2), (STEPS, STEPS)])
def test_at_delay_one_the_last_answer_is_not_computed_again(delay: int, passes: int) -> None:
    calls: list[tuple[int, int]] = []

    def answer(weights: int, step: int) -> Tensor:
        calls.append((weights, step))
        return torch.tensor([[10.0 * weights + step]])

    def learn(weights: int, logits: Tensor, step: int) -> int:
        assert float(logits) == 10 * weights + step - delay
        return weights + 1

    logits = stream_logits(STEPS, delay, 0, answer, learn)
    assert [float(each) for each in logits] == [10 * max(0, t + 1 - delay) + t for t in range(STEPS)]
    assert len(calls) == passes


def test_images_are_pooled_to_a_side_or_left_alone() -> None:
    x = torch.arange(16.0).view(1, 1, 1, 4, 4)
    assert pool(x, None) is x
    assert pool(x, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool(x, (1, 2)).shape == (1, 1, 1, 1, 2)
