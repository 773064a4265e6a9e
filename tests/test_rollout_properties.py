"""The gate for labels hands a method exactly the reference's events, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.episodes import Episodes
from harness.method import Feedback, Method, State, Task
from harness.plan import NULL
from harness.rollout import feedback_of, step_through, training_logits, training_loss
from harness.testing import episodes as drawn_episodes
from harness.testing import protocols, reference_events, tasks, tiny_episodes

Log = list[tuple[str, Tensor]]


class Probe(Method):
    """Writes down everything it is handed, in order; may scribble over it afterwards."""

    def __init__(self, task: Task, scribbles: bool = False) -> None:
        super().__init__(task)
        self.log: Log = []
        self.scribbles = scribbles
        self.started = 0

    def _note(self, event: str, seen: Tensor) -> None:
        self.log.append((event, seen.clone()))
        if self.scribbles:
            seen.fill_(0)

    def start(self, episodes: int) -> State:
        self.started += 1
        self.log.append(("start", torch.tensor(episodes)))
        return torch.zeros(episodes, 1)

    def observe(self, state: State, feedback: Feedback) -> State:
        assert feedback.x is None, "streams do not say which sample a label belongs to"
        self._note("observe", feedback.target)
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        self._note("predict", x)
        return torch.zeros(len(x), self.task.ways), state + 1


class Whole(Probe):
    """Takes whole episodes at once."""

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        self.log += [("x", x), ("feedback", feedback.target)]
        return torch.zeros(*feedback.target.shape, self.task.ways)


def task_of(episodes: Episodes) -> Task:
    channels, height, width = episodes.x.shape[2:]
    return Task(episodes.plan.classes.shape[1], (channels, height, width), "online_few_shot")


def handed(log: Log, row: int) -> list[tuple[Any, ...]]:
    """What one episode of the batch was handed, as ('reveal', label) and ('show', image) events."""
    events: list[tuple[Any, ...]] = []
    for event, seen in log:
        if event == "observe" and seen[row] != NULL:
            events.append(("reveal", int(seen[row])))
        elif event == "predict":
            events.append(("show", seen[row].numpy().tobytes()))
    return events


def expected(episodes: Episodes, row: int, delay: int) -> list[tuple[Any, ...]]:
    """The same from the reference interpreter."""
    targets = episodes.target[:, row].tolist()
    return [
        ("reveal", event[2]) if event[0] == "reveal" else ("show", episodes.x[event[1], row].numpy().tobytes())
        for event in reference_events(targets, delay)
    ]


@given(protocols(), st.integers(0, 99), st.lists(st.integers(0, 500), min_size=1, max_size=4))
def test_stepping_hands_over_the_reference_events(protocol: Any, seed: int, numbers: list[int]) -> None:
    episodes = tiny_episodes(protocol, seed=seed, numbers=numbers)
    probe = Probe(task_of(episodes))
    logits, state = step_through(probe, episodes)
    assert logits.shape == (*episodes.target.shape, protocol.episode.ways)
    assert (state == protocol.steps).all()
    assert [event for event, _ in probe.log] == ["start", *["observe", "predict"] * protocol.steps]
    for row in range(len(numbers)):
        assert handed(probe.log, row) == expected(episodes, row, protocol.label_delay)


@given(protocols(), st.integers(0, 99))
def test_the_batched_form_of_feedback_is_what_stepping_hands_over(protocol: Any, seed: int) -> None:
    episodes = tiny_episodes(protocol, seed=seed, numbers=range(3))
    probe, whole = Probe(task_of(episodes)), Whole(task_of(episodes))
    step_through(probe, episodes)
    training_logits(whole, episodes)
    stepped = torch.stack([seen for event, seen in probe.log if event == "observe"])
    batched = dict(whole.log)
    assert torch.equal(batched["feedback"], stepped)
    assert torch.equal(batched["feedback"], feedback_of(episodes).target)
    assert torch.equal(batched["feedback"].T, torch.from_numpy(episodes.plan.feedback))
    assert torch.equal(batched["x"], episodes.x)
    assert whole.started == 0, "a method with a fast path must not be stepped as well"


@given(drawn_episodes(), st.data())
def test_truncated_episodes_hand_over_the_same_first_events(episodes: Episodes, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, len(episodes.target)))
    plan = dataclasses.replace(episodes.plan, reveals=episodes.plan.reveals[:steps])
    short = Episodes(episodes.x[:steps], episodes.target[:steps], episodes.scored[:steps], plan)
    full, cut = Probe(task_of(episodes)), Probe(task_of(episodes))
    step_through(full, episodes)
    step_through(cut, short)
    assert len(cut.log) == 1 + 2 * steps
    for (event, first), (other, second) in zip(cut.log, full.log, strict=False):
        assert event == other
        assert torch.equal(first, second)


@given(drawn_episodes(), st.data())
def test_labels_still_waiting_at_the_end_reach_no_method(episodes: Episodes, data: st.DataObject) -> None:
    revealed = {int(i) for i in episodes.plan.reveals if i != NULL}
    hidden = [t for t in range(len(episodes.target)) if t not in revealed]
    target = episodes.target.clone()
    target[data.draw(st.sampled_from(hidden))] = 77
    one, other = Probe(task_of(episodes)), Probe(task_of(episodes))
    step_through(one, episodes)
    step_through(other, dataclasses.replace(episodes, target=target))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(one.log, other.log, strict=True))


@given(drawn_episodes())
def test_a_method_that_writes_over_what_it_is_handed_harms_nobody(episodes: Episodes) -> None:
    x, target = episodes.x.clone(), episodes.target.clone()
    quiet, scribbler = Probe(task_of(episodes)), Probe(task_of(episodes), scribbles=True)
    step_through(quiet, episodes)
    step_through(scribbler, episodes)
    assert torch.equal(episodes.x, x)
    assert torch.equal(episodes.target, target)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(quiet.log, scribbler.log, strict=True))


class Sniffer(Probe):
    """Measures the memory behind what it is handed."""

    def _note(self, event: str, seen: Tensor) -> None:
        self.handed = getattr(self, "handed", 0) + 1
        assert seen._base is None
        assert seen.untyped_storage().nbytes() == seen.numel() * seen.element_size()
        super()._note(event, seen)


@given(drawn_episodes())
def test_no_future_lies_in_memory_behind_what_a_method_is_handed(episodes: Episodes) -> None:
    # A view of row t would give away every other row of its tensor, later labels among them.
    sniffer = Sniffer(task_of(episodes))
    step_through(sniffer, episodes)
    assert sniffer.handed == 2 * len(episodes.target)


@given(drawn_episodes())
def test_the_loss_of_equal_logits_is_the_log_of_ways_at_every_scored_step(episodes: Episodes) -> None:
    ways = episodes.plan.classes.shape[1]
    loss = training_loss(Probe(task_of(episodes)), episodes)
    torch.testing.assert_close(loss, torch.tensor(float(len(episodes.target))) * torch.tensor(ways).log())


@given(tasks())
def test_tasks_tell_a_method_what_it_can_be_built_from(task: Task) -> None:
    assert task.ways >= 1
    assert len(task.image_shape) == 3
    assert task.kind in {"online_few_shot", "delayed_label"}
    if task.kind == "online_few_shot":
        assert task.label_delay in {None, 1}
    assert Probe(task).task is task
