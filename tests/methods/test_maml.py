"""MAML against a plain loop over episodes and steps with autograd, one image and one tensor at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from harness.check import check_method
from harness.evaluation.evaluate import evaluate
from harness.evaluation.rollout import step_through
from harness.method.interface import Feedback, Task, state_bytes
from harness.runs import resolve, run
from harness.testing import tiny_dataset
from harness.training.episode_loss import batch_of, episode_loss
from methods import maml
from methods.maml import MAML
from methods.nn.functional_nets import FunctionalDense
from tests.helpers.maml import (
    EPISODES,
    STEPS,
    WAYS,
    assert_nearly,
    k_shot_protocol,
    meta_gradients,
    noisy_stream,
    plain_answers,
    plain_loss,
    plain_step,
    some_episodes,
    source_for,
    start_weights,
)
from tests.helpers.stepping import seeded, stepped

SMALL: dict[str, Any] = {"channels": 4, "inner_lr": 0.3, "inner_steps": 2, "resolution": 16}
SUPPORT_SETS = {
    "conv, layer rates": {"rate": "layer"},
    "conv, global rate, each image alone": {"rate": "global", "norm": "instance"},
    "conv, each image alone over channels": {"norm": "layer", "inner_steps": 3},
    "conv, statistics of the queries": {"norm": "batch", "rate": "global"},
    "conv, first order": {"first_order": True, "rate": "layer"},
    "dense, layer rates": {"net": "dense", "rate": "layer"},
    "dense, each image alone": {"net": "dense", "norm": "instance"},
}
STREAMS = {
    "layer rates": {"rate": "layer"},
    "each image alone": {"norm": "instance"},
    "each image alone over channels": {"norm": "layer", "rate": "global"},
    "first order": {"first_order": True, "rate": "layer"},
}


def a_maml(kind: str = "n_way_k_shot", delay: int | None = None, **options: Any) -> MAML:
    """In double precision and training."""
    with seeded(4):
        net = MAML(Task(WAYS, (1, 28, 28), kind, delay), **{**SMALL, **options}).double().train()
        for each in (*net.learner.body.running_statistics(), *([] if net.factors is None else [net.factors.data])):
            each.copy_(torch.rand_like(each) + 0.2)
        return net


def running_statistics(net: MAML) -> list[Tensor]:
    """The mean and variance of each layer that a stream is normalised by."""
    shape = (1, -1) if isinstance(net.learner.body, FunctionalDense) else (1, -1, 1, 1)
    return [part.view(shape) for statistics in net.learner.body.running_statistics() for part in statistics.clone()]


def weighed(logits: Tensor) -> Tensor:
    """A fixed weighting of all logits."""
    return (torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).sin().view_as(logits) * logits).sum()


@pytest.mark.parametrize("options", SUPPORT_SETS.values(), ids=SUPPORT_SETS)
def test_the_training_loss_and_its_meta_gradient_are_those_of_a_plain_loop(options: dict[str, Any]) -> None:
    net, episodes = a_maml(**options), some_episodes(k_shot_protocol())
    wanted, found = plain_loss(net, episodes, net.steps[0]), episode_loss(net, episodes)
    assert_nearly(found.double(), wanted)
    assert_nearly(meta_gradients(net, found), meta_gradients(net, wanted))


def test_the_second_order_part_is_in_the_gradient_unless_it_is_dropped() -> None:
    episodes = some_episodes(k_shot_protocol())
    exact, dropped = (episode_loss(a_maml(first_order=each), episodes) for each in (False, True))
    torch.testing.assert_close(exact, dropped)
    nets = [a_maml(first_order=each) for each in (False, True)]
    ours, theirs = (meta_gradients(net, episode_loss(net, episodes))[0] for net in nets)
    assert (ours - theirs).abs().max() > 0.01 * ours.abs().max()


@pytest.mark.parametrize(("rate", "numbers"), [("constant", 0), ("global", 1), ("layer", 14)])
def test_learned_rates_are_parameters_that_get_a_gradient(rate: str, numbers: int) -> None:
    net = a_maml(rate=rate)
    episode_loss(net, some_episodes(k_shot_protocol())).backward()
    learned = {name: each for name, each in net.named_parameters() if not name.startswith("learner.")}
    assert sum(each.numel() for each in learned.values()) == numbers
    assert all(each.grad is not None and bool((each.grad != 0).all()) for each in learned.values())


def plain_stream(net: MAML, x: Tensor, feedback: Tensor, delay: int) -> Tensor:
    """Logits [T, B, ways] of streams, an episode and a step at a time."""
    rows = []
    for b in range(EPISODES):
        weights, row = start_weights(net), []
        for t in range(STEPS):
            if feedback[t, b] >= 0:
                weights = plain_step(net, weights, x[t - delay, b, None], feedback[t, b, None], running_statistics(net))
            row.append(plain_answers(net, weights, x[t, b, None], running_statistics(net))[0][0])
        rows.append(torch.stack(row))
    return torch.stack(rows, 1)


@pytest.mark.parametrize("options", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("delay", [1, 3])
def test_streams_take_one_step_a_label_on_the_image_it_belongs_to(options: dict[str, Any], delay: int) -> None:
    net = a_maml("delayed_label", delay, **options)
    x, feedback = noisy_stream(delay)
    expected = plain_stream(net, x, feedback, delay)
    wanted = meta_gradients(net, weighed(expected))
    fast = net.rollout(x, Feedback(feedback))
    assert fast is not None
    for logits in (stepped(net, x, feedback)[0], fast):
        torch.testing.assert_close(logits, expected)
        assert_nearly(meta_gradients(net, weighed(logits)), wanted)


def test_absorbing_a_stream_gives_the_state_of_stepping() -> None:
    net = a_maml("continual", 1)
    x, feedback = noisy_stream(1)
    expected = stepped(net, x, feedback)[1]
    whole = net.absorb(net.start(EPISODES), x, Feedback(feedback))
    first_part = net.absorb(net.start(EPISODES), x[:3], Feedback(feedback[:3]))
    torch.testing.assert_close(whole, expected)
    torch.testing.assert_close(net.absorb(first_part, x[3:], Feedback(feedback[3:])), expected)


def test_pairs_in_the_place_of_a_stream_are_a_step_each() -> None:
    """As in a stage of a recipe that trains a learner of streams on support sets."""
    net = a_maml("online_few_shot", 1)
    x, _ = noisy_stream(1)
    target = torch.arange(STEPS * EPISODES).view(STEPS, EPISODES) % WAYS
    state = net.start(EPISODES)
    for image, label in zip(x, target, strict=True):
        state = net.observe(state, Feedback(label, image))
    torch.testing.assert_close(net.absorb(net.start(EPISODES), x, Feedback(target, x)), state)
    weights = start_weights(net)
    for t in range(STEPS):
        weights = plain_step(net, weights, x[t, 1, None], target[t, 1, None], running_statistics(net))
    torch.testing.assert_close({name: each[1] for name, each in state["weights"].items()}, weights)


@pytest.mark.parametrize("norm", ["support", "instance"])
def test_scoring_takes_its_own_number_of_steps_and_keeps_no_graph(norm: str) -> None:
    episodes, net = some_episodes(k_shot_protocol()), a_maml(norm=norm, inner_steps=1, test_steps=3)
    wanted = plain_loss(net, episodes, 3)
    net.eval()
    logits, _ = step_through(net, episodes)
    assert not logits.requires_grad
    found = net.loss(logits, batch_of(episodes))
    assert_nearly(found.double(), wanted)
    stream = a_maml("online_few_shot", 1, norm=norm).eval()
    answers, state = stepped(stream, *noisy_stream(1))
    assert not any(each.grad_fn for each in (answers, *pytree.tree_leaves(state)))


def fitted_and_answered(net: MAML, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Lists to which every call of `fit` and of `answer` adds its number of episodes."""
    counts: list[list[int]] = [[], []]

    def noted(inside: Any, calls: list[int]) -> Any:
        def noting(first: Any, second: Tensor) -> Any:
            calls.append(len(second))
            return inside(first, second)

        return noting

    monkeypatch.setattr(net, "fit", noted(net.fit, counts[0]))
    monkeypatch.setattr(net, "answer", noted(net.answer, counts[1]))
    return counts


def test_adapting_and_answering_a_few_episodes_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    episodes, net = some_episodes(k_shot_protocol()), a_maml().eval()
    expected, _ = step_through(net, episodes)
    monkeypatch.setattr(maml, "_VALUES_IN_CACHE", 1)
    monkeypatch.setattr(maml, "_FEWEST", 1)
    counts = fitted_and_answered(net, monkeypatch)
    torch.testing.assert_close(step_through(net, episodes)[0], expected)
    assert counts == [[1] * EPISODES] * 2


@pytest.mark.parametrize("episodes", range(1, 12))
def test_an_episode_has_the_same_bits_beside_however_many_others(
    episodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part of a batch is a single episode, whose convolutions are computed in another way."""
    monkeypatch.setattr(maml, "_VALUES_IN_CACHE", 1)
    net = a_maml(inner_steps=1).float().eval()
    counts = fitted_and_answered(net, monkeypatch)
    random = torch.Generator().manual_seed(1)
    x = torch.rand(12, 4, 1, 28, 28, generator=random)
    labels = torch.randint(0, WAYS, (12, 4), generator=random)
    answers = []
    for chosen in (range(episodes), range(12)):
        rows = list(chosen)
        support = x[rows, :3].transpose(0, 1)
        state = net.absorb(net.start(len(rows)), support, Feedback(labels[rows, :3].T, support))
        answers.append(net.query(net.adapt(state), x[rows]))
    parts = counts[0][: -(-episodes // 3)]
    assert sum(parts) == episodes
    assert max(parts) <= 3
    if episodes > 1:
        assert min(parts) > 1
        assert torch.equal(answers[0], answers[1][:episodes])


def test_the_state_is_the_pairs_and_then_the_weights_or_the_weights_and_the_pending_images() -> None:
    weights = 9 * (4 + 3 * 16) + 8 * 4 + 4 * 3 + 3
    net = a_maml(inner_steps=1).float()
    state = net.absorb(net.start(EPISODES), *pairs(5))
    assert state_bytes(state) == 5 * (4 * 16 * 16 + 8)
    assert state_bytes(net.adapt(state)) == 4 * (weights + 8 * 4)
    for delay in (1, 4):
        assert state_bytes(a_maml("delayed_label", delay).float().start(2)) == 4 * (weights + delay * 16 * 16)


def pairs(count: int) -> tuple[Tensor, Feedback]:
    x = torch.zeros(count, EPISODES, 1, 28, 28)
    return x, Feedback(torch.zeros(count, EPISODES, dtype=torch.int64), x)


def test_only_statistics_of_the_queries_are_transductive_and_all_queries_are_then_asked_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [a_maml(norm=norm).transductive for norm in ("support", "instance", "layer", "batch")] == [0, 0, 0, 1]
    assert not a_maml("continual", 1, norm="batch").transductive
    protocol = k_shot_protocol(queries=12)
    for norm, together in (("batch", 36), ("support", 10)):
        net = a_maml(norm=norm, channels=2).float()
        counts: list[int] = []
        monkeypatch.setattr(MAML, "query", noting(counts))
        evaluate(net, source_for(protocol), protocol, "test", 100)
        monkeypatch.undo()
        assert counts[0] == together


def noting(counts: list[int]) -> Any:
    """`MAML.query` that notes how many queries it is counts at once."""
    inside = MAML.query

    def query(self: MAML, state: Any, x: Tensor) -> Tensor:
        counts.append(x.shape[1])
        return inside(self, state, x)

    return query


def test_a_transductive_row_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "load_dataset", lambda *_, **__: tiny_dataset("cifar_fs", 6, 20))
    for norm in ("batch", "support"):
        options = {"norm": norm, "channels": 2}
        request = resolve.Request(
            "cifarfs_5way_1shot", "maml", "smoke", options=options, episodes=2, test_episodes=2, out=tmp_path
        )
        marks = run.run(resolve.prepare(request), quiet=True).marks
        assert ("transductive" in marks) == (norm == "batch")


@pytest.mark.slow
def test_queries_that_see_each_other_are_noted_where_that_is_declared_and_not_found_where_it_is_not() -> None:
    for norm, outcome in (("batch", "note"), ("support", "passed")):
        report = check_method(MAML, options={"norm": norm, "channels": 2}, kinds=["n_way_k_shot"])
        (found,) = [each for each in report.results if each.name == "queries are independent"]
        assert found.outcome == outcome


@pytest.mark.parametrize("ways", [WAYS, WAYS + 1])
def test_the_pretraining_method_of_a_stream_is_the_same_net_on_support_sets(ways: int) -> None:
    net = a_maml("delayed_label", 2, rate="layer", inner_lr=0.01, pretext_lr=0.3)
    pretraining = net.pretraining_method(Task(ways, (1, 28, 28), "n_way_k_shot"))
    assert isinstance(pretraining, MAML)
    before = {name: each.clone() for name, each in net.state_dict().items()}
    pretraining.double().train()
    episode_loss(pretraining, some_episodes(k_shot_protocol())).backward()
    with torch.no_grad():
        for each in pretraining.parameters():
            each.sub_(0.1 * each.grad)
    moved = {name for name, each in net.state_dict().items() if not torch.equal(each, before[name])}
    body = {"factors", *(name for name in before if name.startswith("learner.body."))}
    assert moved == (body | {"learner.classify.weight", "learner.classify.bias"} if ways == WAYS else body)
    assert (net.inner_lr, pretraining.inner_lr) == (0.01, 0.3)
    assert a_maml().pretraining_method(net.task) is None


def test_impossible_options_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="images of 8x8 vanish in four 2x2 poolings"):
        a_maml(resolution=8)
