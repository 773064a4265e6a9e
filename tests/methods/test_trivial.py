"""The learners without parameters, each against plain Python that lives one episode at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from harness import testing
from harness.evaluation.rollout import score_batch, step_through
from harness.method.interface import Feedback, Method, Task, leaves, state_bytes
from harness.method.registry import load_method, task_for
from harness.protocol.models import PROTOCOL
from harness.util.errors import UserError
from tests.helpers.built_in import UNTRAINED_CLASSES
from tests.helpers.stepping import stepped_logits

Images = list[list[float]]
Labels = list[int]
"""What is revealed before each step of one episode; -1 is null."""


def built(name: str, ways: int, shape: tuple[int, int, int] = (2, 3, 4), delay: int = 1) -> Method:
    cls = load_method(name).cls
    return cls(Task(ways, shape, "delayed_label", delay if cls.needs_label_delay else None))


def random_life(seed: int) -> tuple[int, int, Tensor, Tensor]:
    """ways, delay, x [T, B, 2, 3, 4] of few grey levels, feedback [T, B] with some labels never revealed."""
    random = torch.Generator().manual_seed(seed)
    ways, delay = (int(torch.randint(1, high, (), generator=random)) for high in (7, 6))
    x = torch.randint(0, 5, (20, 9, 2, 3, 4), generator=random).float()
    target = torch.randint(0, ways, (20, 9), generator=random)
    target[torch.rand(20, 9, generator=random) < 0.1] = -1
    feedback = torch.full_like(target, -1)
    feedback[delay:] = target[: 20 - delay]
    return ways, delay, x, feedback


# The oracles: the answer of step t of one episode, as [ways] numbers whose order is what matters.


def chance(ways: int, delay: int, images: Images, labels: Labels) -> list[float]:
    return [0.0] * ways


def majority(ways: int, delay: int, images: Images, labels: Labels) -> list[float]:
    return [float(labels.count(number)) for number in range(ways)]


def count(ways: int, delay: int, images: Images, labels: Labels) -> list[float]:
    return [float(-labels.count(number)) for number in range(ways)]


def copy_last(ways: int, delay: int, images: Images, labels: Labels) -> list[float]:
    known = [label for label in labels if label >= 0]
    return [float(bool(known) and number == known[-1]) for number in range(ways)]


def nearest_pixel(ways: int, delay: int, images: Images, labels: Labels) -> list[float]:
    nearest: dict[int, float] = {}
    for step, label in enumerate(labels):
        if label >= 0:
            distance = sum((a - b) ** 2 for a, b in zip(images[step - delay], images[-1], strict=True))
            nearest[label] = min(distance, nearest.get(label, distance))
    farthest = max(nearest.values(), default=0.0)
    return [-nearest[number] if number in nearest else -farthest - 1 for number in range(ways)]


ORACLES: dict[str, Callable[[int, int, Images, Labels], list[float]]] = {
    "chance": chance,
    "majority": majority,
    "copy_last": copy_last,
    "count": count,
    "nearest_pixel": nearest_pixel,
}


def test_every_method_without_parameters_has_an_oracle() -> None:
    assert sorted(ORACLES) == sorted(UNTRAINED_CLASSES)


def ranks(values: list[float]) -> list[int]:
    return [sorted(set(values)).index(value) for value in values]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", UNTRAINED_CLASSES)
def test_answers_rank_the_classes_as_plain_python_does(name: str, seed: int) -> None:
    ways, delay, x, feedback = random_life(seed)
    logits = stepped_logits(built(name, ways, delay=delay), x, feedback)
    assert logits.shape == (20, 9, ways)
    for b in range(9):
        images = x[:, b].flatten(1).tolist()
        for t in range(20):
            expected = ORACLES[name](ways, delay, images[: t + 1], feedback[: t + 1, b].tolist())
            assert ranks(logits[t, b].tolist()) == ranks(expected), f"episode {b}, step {t}"


def test_nearest_pixel_answers_minus_the_squared_distance() -> None:
    ways, delay, x, feedback = random_life(1)
    logits = stepped_logits(built("nearest_pixel", ways, delay=delay), x, feedback)
    seen = 0
    for b in range(9):
        labels = feedback[:, b].tolist()
        expected = nearest_pixel(ways, delay, x[:, b].flatten(1).tolist(), labels)
        for number in set(labels) - {-1}:
            seen += 1
            assert logits[-1, b, number] == expected[number]
    assert seen > 9


@pytest.mark.parametrize("name", UNTRAINED_CLASSES)
def test_states_are_tensors_of_all_episodes_and_are_never_edited(name: str) -> None:
    ways, delay, x, feedback = random_life(2)
    method = built(name, ways, delay=delay)
    state = method.start(9)
    for images, target in zip(x, feedback, strict=True):
        before = copy.deepcopy((state, images, target))
        observed = method.observe(state, Feedback(target))
        copies = copy.deepcopy(observed)
        logits, after = method.predict(observed, images)
        logits.add_(1.0)  # what was answered is the caller's
        same = pytree.tree_map(torch.equal, (before, copies), ((state, images, target), observed))
        assert all(pytree.tree_leaves(same))
        assert leaves(after)
        assert all(isinstance(leaf, Tensor) and len(leaf) == 9 for leaf in pytree.tree_leaves(after))
        state = after


@pytest.mark.parametrize("name", UNTRAINED_CLASSES)
def test_an_episode_does_not_know_its_batch(name: str) -> None:
    ways, delay, x, feedback = random_life(3)
    method = built(name, ways, delay=delay)
    together = stepped_logits(method, x, feedback)
    alone = torch.cat([stepped_logits(method, x[:, b : b + 1], feedback[:, b : b + 1]) for b in range(9)], 1)
    assert torch.equal(together, alone)


@pytest.mark.parametrize("name", UNTRAINED_CLASSES)
def test_queries_are_answered_as_steps_of_their_own(name: str) -> None:
    ways, delay, x, feedback = random_life(4)
    method = built(name, ways, delay=delay)
    state = method.start(9)
    for images, target in zip(x[:12], feedback[:12], strict=True):
        _, state = method.predict(method.observe(state, Feedback(target)), images)
    state = method.observe(state, Feedback(feedback[12]))
    queries = x[12:].transpose(0, 1)
    answers = method.query(state, queries)
    assert torch.equal(answers, Method.query(method, state, queries))
    assert torch.equal(answers[:, 3], method.predict(state, queries[:, 3])[0])


@pytest.mark.parametrize("name", UNTRAINED_CLASSES)
def test_there_is_nothing_to_train_or_to_save_and_states_follow_the_module(name: str) -> None:
    method = built(name, 5)
    assert not list(method.parameters())
    assert not method.state_dict()
    assert all(leaf.device.type == "meta" for leaf in leaves(method.to("meta").start(3)))


def test_only_nearest_pixel_is_told_the_delay() -> None:
    assert [name for name in UNTRAINED_CLASSES if load_method(name).cls.needs_label_delay] == ["nearest_pixel"]


def test_nearest_pixel_pays_for_every_image_it_keeps() -> None:
    _, _, x, feedback = random_life(5)
    method = built("nearest_pixel", 6, delay=3)
    state, pixels = method.start(9), 2 * 3 * 4
    for t, (images, target) in enumerate(zip(x, feedback, strict=True)):
        _, state = method.predict(method.observe(state, Feedback(target)), images)
        revealed, pending = max(0, t - 2), min(t + 1, 3)
        assert state["pending"].shape == (9, pending, pixels)
        assert state_bytes(state) == 4 * pixels * (t + 1) + 8 * revealed


def test_nearest_pixel_takes_support_pairs_as_they_are_given() -> None:
    method = built("nearest_pixel", 3, delay=2)
    near, far = torch.zeros(4, 2, 3, 4), torch.full((4, 2, 3, 4), 9.0)
    state = method.observe(method.start(4), Feedback(torch.full((4,), 2), near))
    state = method.observe(state, Feedback(torch.full((4,), 0), far))
    logits, state = method.predict(state, near)
    assert logits.argmax(1).tolist() == [2] * 4
    assert (logits[:, 1] < logits[:, 0]).all()
    assert state["pending"].shape[1] == 1


def test_nearest_pixel_on_a_support_set_is_the_nearest_neighbour() -> None:
    """Against NumPy, on whole episodes of a protocol."""
    protocol = PROTOCOL.validate_python(
        {
            "kind": "n_way_k_shot",
            "title": "tiny",
            "dataset": "glyphs",
            "episode": {"ways": 4, "shots": 3, "queries": 3},
        }
    )
    episodes = testing.tiny_episodes(protocol, numbers=range(6))
    cls = load_method("nearest_pixel").cls
    method = cls(task_for(cls, protocol, (1, 28, 28)))
    answers = step_through(method, episodes)[0].argmax(-1)
    x, target = episodes.x.double().flatten(2).numpy(), episodes.target.numpy()
    for b in range(6):
        distance = ((x[12:, None, b] - x[None, :12, b]) ** 2).sum(-1)
        assert answers[:, b].tolist() == target[:12, b][distance.argmin(1)].tolist()
    np.testing.assert_array_equal(score_batch(method, episodes)[12:], answers.numpy() == target[12:])


@pytest.mark.parametrize("name", UNTRAINED_CLASSES)
def test_learners_from_labels_are_refused_where_none_are_ever_revealed(name: str) -> None:
    protocol = PROTOCOL.validate_python({"kind": "supervised", "title": "tiny", "dataset": "objects_supervised"})
    cls = load_method(name).cls
    if name == "chance":
        assert task_for(cls, protocol, (3, 32, 32), 20).ways == 20
        return
    with pytest.raises(UserError, match=f"{cls.__name__} does not run on protocols of kind supervised; it runs on"):
        task_for(cls, protocol, (3, 32, 32), 20)
