"""The gate for labels hands a method exactly the reference's events, and nothing else, in episodes of all kinds."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.episodes.plan import NULL, QUERY, SUPPORT
from harness.episodes.source import Episodes
from harness.evaluation.rollout import feedback_of, step_through, training_logits
from harness.method.interface import Feedback, State, Task
from harness.protocol.models import KINDS
from harness.testing import STREAM_KINDS, episodes_of, protocols, tasks, tiny_episodes
from harness.training.episode_loss import episode_loss
from tests.helpers.probes import Probe, expected, handed, probe

NO_QUERIES = (*STREAM_KINDS, "segmentation_distractors", "supervised")
QUERIED = ("continual", "n_way_k_shot")


@st.composite
def lives(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> tuple[Any, Episodes]:
    """A protocol and some of its episodes."""
    protocol = draw(protocols(kinds))
    return protocol, draw(episodes_of(protocol))


def calls(protocol: Any, steps: int) -> list[str]:
    """What the harness calls, in order, null feedback included."""
    shape = protocol.episode
    if protocol.kind == "continual":
        return ["start", *["observe", "predict"] * (shape.subtasks * shape.shots), "observe", "adapt", "query"]
    if protocol.kind == "n_way_k_shot":
        return ["start", *["pair"] * (shape.ways * shape.shots), "adapt", "query"]
    return ["start", *["observe", "predict"] * steps]


@given(lives())
def test_stepping_hands_over_the_reference_events(life: tuple[Any, Episodes]) -> None:
    protocol, episodes = life
    each = probe(protocol, episodes)
    logits, state = step_through(each, episodes)
    assert logits.shape[:2] == (int(episodes.plan.answer_mask.sum()), episodes.x.shape[1])
    assert [event for event, _ in each.log] == calls(protocol, episodes.plan.steps)
    before = sum(event in {"observe", "pair", "predict"} for event, _ in each.log)
    due = protocol.kind == "continual"
    assert (state == before - due).all(), "the state given back is that of the last step before the queries"
    for row in range(episodes.x.shape[1]):
        assert handed(each.log, row) == expected(protocol, episodes, row)


@given(lives())
def test_training_hands_over_the_same(life: tuple[Any, Episodes]) -> None:
    protocol, episodes = life
    stepped, trained = probe(protocol, episodes), probe(protocol, episodes)
    step_through(stepped, episodes)
    logits = training_logits(trained.train(), episodes)
    assert len(logits) == (episodes.plan.phase == QUERY).sum() or protocol.kind in NO_QUERIES
    # A state may be started and dropped, to ask whether the method absorbs; what counts is what it is handed.
    one_log, other_log = ([entry for entry in each.log if entry[0] != "start"] for each in (stepped, trained))
    assert [event for event, _ in one_log] == [event for event, _ in other_log]
    for (_, one), (_, other) in zip(one_log, other_log, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Whole(Probe):
    """Takes whole episodes at once, or all steps before the queries."""

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        self.log.append(("rollout", (x, feedback.target, feedback.x)))
        return self.equal(x)

    def absorb(self, state: State, x: Tensor, feedback: Feedback) -> State | None:
        self.log.append(("absorb", (x, feedback.target, feedback.x)))
        return state + 7


@given(lives(NO_QUERIES))
def test_the_batched_form_of_feedback_is_what_stepping_hands_over(life: tuple[Any, Episodes]) -> None:
    protocol, episodes = life
    stepper, whole = probe(protocol, episodes), probe(protocol, episodes, Whole)
    step_through(stepper, episodes)
    training_logits(whole, episodes)
    stepped = torch.stack([seen[0] for event, seen in stepper.log if event == "observe"])
    ((event, (x, target, paired)),) = whole.log
    assert event == "rollout", "a method with a fast path must not be stepped as well"
    assert torch.equal(target, stepped)
    assert torch.equal(target, feedback_of(episodes).target)
    if protocol.kind != "segmentation_distractors":
        assert torch.equal(target.T, torch.from_numpy(episodes.plan.feedback))
    assert torch.equal(x, episodes.x)
    assert paired is None


@given(lives(QUERIED))
def test_what_is_absorbed_at_once_is_what_stepping_hands_over_before_the_queries(life: tuple[Any, Episodes]) -> None:
    protocol, episodes = life
    stepper, whole = probe(protocol, episodes), probe(protocol, episodes, Whole)
    step_through(stepper, episodes)
    training_logits(whole, episodes)
    first = episodes.plan.first_query
    pairs = protocol.kind == "n_way_k_shot"
    seen = [each for event, each in stepper.log if event == ("pair" if pairs else "observe")][:first]
    (_, (x, target, paired)) = whole.log[1]
    assert [event for event, _ in whole.log] == ["start", "absorb", *([] if pairs else ["observe"]), "adapt", "query"]
    assert torch.equal(target, torch.stack([each[0] for each in seen]))
    assert torch.equal(x, episodes.x[:first])
    if pairs:
        assert torch.equal(paired, x)
        assert torch.equal(paired, torch.stack([each[1] for each in seen]))
    else:
        assert paired is None
        due = whole.log[2][1][0]
        assert torch.equal(due, episodes.target[first - 1]), "the last label is due before the queries"
    # The state that absorbing gave is what adapting starts from, after the label that was due.
    assert (whole.log[-2][1][0] == 7 + (not pairs)).all()


@given(lives(("continual",)))
def test_the_last_label_of_a_stream_is_handed_over_once_before_adapting(life: tuple[Any, Episodes]) -> None:
    protocol, episodes = life
    each = probe(protocol, episodes)
    step_through(each, episodes)
    labels = [seen[0] for event, seen in each.log if event == "observe"]
    first = episodes.plan.first_query
    assert (labels[0] == NULL).all()
    assert torch.equal(torch.stack(labels[1:]), episodes.target[:first]), "each label once, in order"
    assert [event for event, _ in each.log][-3:] == ["observe", "adapt", "query"]


@given(lives(("n_way_k_shot",)))
def test_support_pairs_come_with_their_own_image_and_label(life: tuple[Any, Episodes]) -> None:
    protocol, episodes = life
    each = probe(protocol, episodes)
    step_through(each, episodes)
    pairs = [seen for event, seen in each.log if event == "pair"]
    assert len(pairs) == (episodes.plan.phase == SUPPORT).sum()
    for t, (target, x) in enumerate(pairs):
        assert torch.equal(target, episodes.target[t])
        assert torch.equal(x, episodes.x[t])


@given(lives((*STREAM_KINDS, "segmentation_distractors")), st.data())
def test_truncated_episodes_hand_over_the_same_first_events(life: tuple[Any, Episodes], data: st.DataObject) -> None:
    protocol, episodes = life
    steps = data.draw(st.integers(1, len(episodes.target)))
    plan = dataclasses.replace(
        episodes.plan, feedback_step=episodes.plan.feedback_step[:steps], phase=episodes.plan.phase[:steps]
    )
    short = Episodes(episodes.x[:steps], episodes.target[:steps], episodes.scored[:steps], plan)
    full, cut = probe(protocol, episodes), probe(protocol, episodes)
    step_through(full, episodes)
    step_through(cut, short)
    assert len(cut.log) == 1 + 2 * steps
    for (event, first), (other, second) in zip(cut.log, full.log, strict=False):
        assert event == other
        assert torch.equal(first[0], second[0])


@given(lives(), st.data())
def test_labels_that_are_never_due_reach_no_method(life: tuple[Any, Episodes], data: st.DataObject) -> None:
    protocol, episodes = life
    revealed = {int(i) for i in episodes.plan.feedback_step if i != NULL}
    hidden = [t for t in range(len(episodes.target)) if t not in revealed]
    assert hidden, "the last labels of a stream and those of queries are never revealed"
    target = episodes.target.clone()
    target[data.draw(st.sampled_from(hidden))] = 77
    for hand_over in (step_through, training_logits):
        one, other = probe(protocol, episodes), probe(protocol, episodes)
        hand_over(one, episodes)
        hand_over(other, dataclasses.replace(episodes, target=target))
        for row in range(episodes.x.shape[1]):
            assert handed(one.log, row) == handed(other.log, row)


@given(lives())
def test_a_method_that_writes_over_what_it_is_handed_harms_nobody(life: tuple[Any, Episodes]) -> None:
    protocol, episodes = life
    x, target = episodes.x.clone(), episodes.target.clone()
    quiet, scribbler = probe(protocol, episodes), probe(protocol, episodes, scribbles=True)
    step_through(quiet, episodes)
    step_through(scribbler, episodes)
    assert torch.equal(episodes.x, x)
    assert torch.equal(episodes.target, target)
    for row in range(x.shape[1]):
        assert handed(quiet.log, row) == handed(scribbler.log, row)


class Sniffer(Probe):
    """Measures the memory behind what it is handed."""

    def note(self, event: str, *seen: Tensor) -> None:
        for each in seen:
            assert each._base is None
            assert each.untyped_storage().nbytes() == each.numel() * each.element_size()
        super().note(event, *seen)


@given(lives())
def test_no_future_lies_in_memory_behind_what_a_method_is_handed(life: tuple[Any, Episodes]) -> None:
    # A view of row t would give away every other row of its tensor, later labels among them.
    protocol, episodes = life
    sniffer = probe(protocol, episodes, Sniffer)
    step_through(sniffer, episodes)
    assert len(sniffer.log) == len(calls(protocol, episodes.plan.steps))


@given(lives())
def test_the_loss_of_equal_logits_is_the_log_of_ways_at_every_scored_step(life: tuple[Any, Episodes]) -> None:
    protocol, episodes = life
    masks = protocol.kind == "segmentation_distractors"
    choices = 2 if masks else episodes.plan.classes.shape[1]
    loss = episode_loss(probe(protocol, episodes), episodes)
    torch.testing.assert_close(loss, episodes.plan.scored.sum() * torch.tensor(float(choices)).log())


@given(protocols(("segmentation_distractors",)), st.integers(0, 99))
def test_the_mask_revealed_at_a_step_is_the_target_of_the_step_before(protocol: Any, seed: int) -> None:
    episodes = tiny_episodes(protocol, seed=seed)
    each = probe(protocol, episodes)
    step_through(each, episodes)
    masks = [seen[0] for event, seen in each.log if event == "observe"]
    assert masks[0].shape == episodes.target.shape[1:]
    assert (masks[0] == NULL).all()
    assert all(torch.equal(mask, episodes.target[t]) for t, mask in enumerate(masks[1:]))


@given(tasks())
def test_tasks_tell_a_method_what_it_can_be_built_from(task: Task) -> None:
    assert task.ways >= 1
    assert len(task.image_shape) == 3
    assert task.kind in KINDS
    assert task.ways == 1 or task.kind != "segmentation_distractors"
    if task.kind in {"n_way_k_shot", "supervised"}:
        assert task.label_delay is None
    elif task.kind != "delayed_label":
        assert task.label_delay in {None, 1}
    assert Probe(task).task is task
