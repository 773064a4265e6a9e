"""The training half of the interface: what losses are given, and hooks that would not be called are refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness import testing
from harness.check import check_method
from harness.method.interface import Feedback, Method, State, Task, one_hot
from harness.method.registry import load_method, task_for
from harness.protocol.models import PROTOCOL
from harness.runs.resolve import Request, prepare
from harness.training.episode_loss import batch_of, episode_loss
from harness.training.interface import HOOKS, Batch, Trainable, check_hooks, training_hooks
from harness.training.loop import train
from harness.util.errors import AnswerError, UserError
from methods import BUILT_IN
from tests.helpers.training import training


class Counting(Method):
    """Logits are learned weights of how often each class was revealed."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 1, task.ways))

    def start(self, episodes: int) -> State:
        return self.weight.new_zeros(episodes, self.task.ways)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state + one_hot(feedback.target, self.task.ways)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return self.weight * state, state


class Recording(Trainable, Counting):
    """Keeps the batch that its loss is given."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        self.batch, self.logits = batch, logits
        return super().loss(logits, batch)


class Forgetful(Counting):
    """Has a loss of its own and does not say that it is trained by it."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return logits.sum()


class Outdated(Trainable, Counting):
    """Has a loss as it was defined before batches."""

    def loss(self, logits: Tensor, target: Tensor, scored: Tensor) -> Tensor:  # type: ignore[override]
        return logits.sum()


class WithModule(Counting):
    """A part that is called as a hook is, on the instance: it is the author's own and no hook."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.loss = torch.nn.CrossEntropyLoss()


SHAPES = {
    "online_few_shot": {"ways": 3, "presentations": 4},
    "continual": {"subtasks": 3, "shots": 2, "queries": 2},
    "n_way_k_shot": {"ways": 3, "shots": 2, "queries": 2},
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_loss_is_given_whole_episodes_and_the_logits_of_their_answers(kind: str) -> None:
    data = {"kind": kind, "title": "tiny", "dataset": "objects", "episode": SHAPES[kind]}
    scoring = {"scoring": {"shots": [1, 2]}} if kind == "online_few_shot" else {}
    protocol = PROTOCOL.validate_python({**data, **scoring})
    episodes = testing.tiny_episodes(protocol)
    method = Recording(task_for(Recording, protocol, episodes.x.shape[2:]))
    loss = episode_loss(method, episodes)
    batch, logits = method.batch, method.logits
    assert torch.equal(batch.x, episodes.x)
    assert torch.equal(batch.target, episodes.target)
    assert torch.equal(batch.scored, episodes.scored)
    assert batch.first_query == episodes.plan.first_query
    assert batch.class_rows.tolist() == episodes.plan.classes.tolist()
    answers = episodes.plan.steps if kind == "online_few_shot" else 6
    assert logits.shape == (answers, episodes.target.shape[1], 3)
    assert torch.equal(batch.answer_target, episodes.target[-answers:])
    assert torch.equal(batch.answer_scored, episodes.scored[-answers:])
    each = F.cross_entropy(logits.flatten(0, 1), episodes.target[-answers:].flatten(), reduction="none")
    expected = each[episodes.scored[-answers:].flatten()].sum() / episodes.target.shape[1]
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("hook", ["loss", "episode_loss"])
@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (torch.ones(3), r"a tensor of shape \[3\]"),
        (torch.tensor(1), "a tensor of torch.int64"),
        (1.0, "float 1.0"),
        (None, "NoneType None"),
    ],
)
def test_a_loss_that_is_none_is_named(hook: str, returned: object, found: str) -> None:
    if hook == "episode_loss" and returned is None:
        return  # that it leaves the loss to the answers
    cls = type("Mine", (Trainable, Counting), {hook: lambda self, *_: returned})
    protocol = PROTOCOL.validate_python(
        {"kind": "n_way_k_shot", "title": "tiny", "dataset": "objects", "episode": SHAPES["n_way_k_shot"]}
    )
    episodes = testing.tiny_episodes(protocol)
    method = cls(task_for(cls, protocol, episodes.x.shape[2:]))
    with pytest.raises(AnswerError, match=rf"Mine\.{hook} returned {found}; it must return a tensor of one"):
        episode_loss(method, episodes)


def test_a_state_that_is_changed_in_place_is_told_in_words(tmp_path: Path) -> None:
    class InPlace(Counting):
        def observe(self, state: State, feedback: Feedback) -> State:
            state += one_hot(feedback.target, self.task.ways)
            return state

    small = training(tmp_path, stages=[{"name": "one", "episodes": 2}], validation=None)
    method = InPlace(Task(3, (3, 32, 32), "online_few_shot", 1))
    with pytest.raises(AnswerError, match=r"InPlace changes a tensor in place .* `harness check` looks for it"):
        train(dataclasses.replace(small, method=method))


def test_a_batch_cannot_be_changed() -> None:
    protocol = PROTOCOL.validate_python(
        {"kind": "n_way_k_shot", "title": "tiny", "dataset": "objects", "episode": SHAPES["n_way_k_shot"]}
    )
    batch = batch_of(testing.tiny_episodes(protocol))
    with pytest.raises(AttributeError, match="first_query"):
        batch.first_query = 0  # type: ignore[misc]


REFUSAL = (
    "Forgetful defines loss(), a training hook, but does not derive from Trainable, so that it would never be called; "
    "write: class Forgetful(Trainable, Method), with 'from harness import Method, Trainable'"
)
SIGNATURE = "Outdated.loss() cannot be called as training calls it: define it as loss(self, logits, batch)"


def test_hooks_without_trainable_are_refused_in_training() -> None:
    task = Task(3, (1, 4, 4), "online_few_shot")
    with pytest.raises(UserError, match=re.escape(REFUSAL)):
        training_hooks(Forgetful(task))


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_refused_without_trainable(hook: str) -> None:
    with pytest.raises(UserError, match=rf"Mine defines {hook}\(\), a training hook"):
        check_hooks(type("Mine", (Counting,), {hook: lambda self, *given: None}))


@pytest.mark.parametrize(("cls", "message"), [(Forgetful, REFUSAL), (Outdated, SIGNATURE)])
def test_hooks_that_would_not_be_called_fail_the_check(cls: type[Method], message: str) -> None:
    report = check_method(cls, kinds=["n_way_k_shot"])
    (found,) = [each for each in report.results if each.name == "trainable"]
    assert found.outcome == "failed"
    assert message in found.reason


def test_hooks_without_trainable_are_refused_before_data_are_loaded(tmp_path: Path) -> None:
    source = (
        "from harness import Method\n\n\nclass Mine(Method):\n"
        "    def episode_loss(self, batch):\n        return batch.x.sum()\n"
    )
    (tmp_path / "mine.py").write_text(source)
    request = Request("omniglot_5way_online", f"{tmp_path / 'mine.py'}:Mine", data_root=tmp_path, cache=tmp_path)
    with pytest.raises(UserError, match=r"Mine defines episode_loss\(\), a training hook"):
        prepare(request)


def test_a_hook_with_other_arguments_is_refused() -> None:
    with pytest.raises(UserError, match=re.escape(SIGNATURE)):
        check_hooks(Outdated)


def test_what_is_no_hook_is_left_alone() -> None:
    task = Task(3, (1, 4, 4), "online_few_shot")
    assert type(training_hooks(WithModule(task))) is Trainable
    assert type(training_hooks(Counting(task))) is Trainable


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_hooks_of_built_in_methods_are_called(name: str) -> None:
    check_hooks(load_method(name).cls)
