"""Reptile against torch's own Adam and SGD, one episode at a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.episodes.source import Episodes
from harness.evaluation.rollout import step_through
from harness.method.interface import Feedback, Task
from harness.training.episode_loss import batch_of, episode_loss
from harness.training.interface import Batch
from methods.nn.functional_nets import Learner
from methods.nn.passes import batches_over
from methods.reptile import Reptile
from tests.helpers.maml import EPISODES, STEPS, WAYS, k_shot_protocol, noisy_stream, source_for
from tests.helpers.stepping import seeded, stepped

SMALL: dict[str, Any] = {"channels": 4, "inner_lr": 0.01, "inner_steps": 3, "inner_batch": 4, "resolution": 16}


def a_reptile(kind: str = "n_way_k_shot", delay: int | None = None, **options: Any) -> Reptile:
    """In double precision and training, from second moments and running statistics that are not zero."""
    with seeded(4):
        net = Reptile(Task(WAYS, (1, 28, 28), kind, delay), **{**SMALL, **options}).double().train()
        for name, each in net.named_buffers():
            each.copy_(torch.tensor(7.0) if name.endswith("count") else torch.rand_like(each) * 1e-3 + 0.01)
    return net


def some_episodes() -> Episodes:
    protocol = k_shot_protocol()
    single = source_for(protocol).episodes(protocol, "test", 0, range(EPISODES))
    return Episodes(single.x.double(), single.target, single.scored, single.plan)


def torch_adam(net: Reptile, learner: Learner) -> torch.optim.Adam:
    """torch's Adam with beta1 = 0, that went through the net's steps already."""
    adam = torch.optim.Adam(learner.parameters(), lr=net.inner_lr, betas=(0.0, 0.999), eps=1e-8)
    moments = net.squares.start(1)
    for name, each in learner.named_parameters():
        count = moments["count"][name.split(".")[0]][0].float().clone()
        square = moments["mean"][name][0].clone()
        adam.state[each] = {"step": count, "exp_avg": torch.zeros_like(each), "exp_avg_sq": square}
    return adam


def plainly_trained(net: Reptile, x: Tensor, target: Tensor, batches: list[list[int]]) -> tuple[Learner, Any]:
    """A copy of the learner after learning one episode's images [N, 1, 28, 28] batch by batch, and its optimiser."""
    learner = copy.deepcopy(net.learner)
    adam = torch_adam(net, learner)
    statistics = tuple(each.clone() for each in learner.body.running_statistics()) if net._running else ()
    for rows in batches:
        adam.zero_grad()
        logits, _ = learner(F.adaptive_avg_pool2d(x[rows], 16), statistics)
        F.cross_entropy(logits, target[rows]).backward()
        adam.step()
    return learner, adam


@pytest.mark.parametrize("kind", ["n_way_k_shot", "online_few_shot", "continual"])
def test_sgd_on_the_training_loss_is_reptile(kind: str) -> None:
    net = a_reptile(kind, None if kind == "n_way_k_shot" else 1)
    if kind == "n_way_k_shot":
        episodes = some_episodes()
        x, target, first = episodes.x, episodes.target, 6
        batches = batches_over(len(x), 4, 3)
    else:
        x, _ = noisy_stream(1)
        target = torch.arange(STEPS * EPISODES).view(STEPS, EPISODES) % WAYS
        first = STEPS if kind == "online_few_shot" else 4
        batches = [[step] for step in range(first)]
    ends = [plainly_trained(net, x[:, b], target[:, b], batches) for b in range(EPISODES)]
    start = {name: each.detach().clone() for name, each in net.learner.named_parameters()}
    before = net.squares.start(1)["count"]["body"].clone()

    outer = torch.optim.SGD(net.parameters(), lr=0.3)
    loss = net.episode_loss(Batch(x, target, torch.ones_like(target).bool(), first, target))
    loss.backward()
    outer.step()

    distance = 0.0
    for name, own in net.learner.named_parameters():
        away = torch.stack([end.get_parameter(name) - start[name] for end, _ in ends])
        torch.testing.assert_close(own.data, start[name] + 0.3 * away.mean(0), rtol=1e-5, atol=1e-8)
        distance += float(away.detach().square().sum()) / (2 * EPISODES)
        squares = torch.stack([adam.state[end.get_parameter(name)]["exp_avg_sq"] for end, adam in ends])
        torch.testing.assert_close(net.squares.start(1)["mean"][name][0], squares.mean(0), rtol=1e-5, atol=1e-12)
    assert float(loss.detach()) == pytest.approx(distance, rel=1e-5)
    assert distance > 0.001
    torch.testing.assert_close(net.squares.start(1)["count"]["body"], before + len(batches))


def test_the_harness_trains_it_by_that_loss() -> None:
    net, episodes = a_reptile(), some_episodes()
    expected = copy.deepcopy(net).episode_loss(batch_of(episodes))
    torch.testing.assert_close(episode_loss(net, episodes), expected)


def test_without_carrying_over_every_episode_begins_at_zero() -> None:
    net, episodes = a_reptile(carry=False), some_episodes()
    for each in net.squares.buffers():
        each.zero_()
    episode_loss(net, episodes).backward()
    assert not any(each.any() for each in net.squares.buffers())
    assert all(bool(each.grad.isfinite().all()) for each in net.learner.parameters() if each.grad is not None)


@pytest.mark.parametrize("transductive", [False, True])
def test_scoring_learns_the_support_set_alone_and_changes_nothing(transductive: bool) -> None:
    net = a_reptile(transductive=transductive, test_steps=5, test_batch=2).eval()
    assert net.transductive == transductive
    episodes = some_episodes()
    before = {name: each.clone() for name, each in net.state_dict().items()}
    logits, _ = step_through(net, episodes)
    assert all(torch.equal(each, before[name]) for name, each in net.state_dict().items())
    assert not logits.requires_grad
    x = episodes.x
    for b in range(EPISODES):
        learner, _ = plainly_trained(net, x[:6, b], episodes.target[:6, b], batches_over(6, 2, 5))
        support, queries = (F.adaptive_avg_pool2d(part[:, b], 16) for part in (x[:6], x[6:]))
        statistics = () if transductive else learner(support)[1]
        torch.testing.assert_close(logits[:, b], learner(queries, statistics)[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("delay", [1, 3])
def test_streams_take_one_step_a_label_on_the_image_it_belongs_to(delay: int) -> None:
    net = a_reptile("delayed_label", delay).eval()
    x, feedback = noisy_stream(delay)
    state, found = net.start(EPISODES), []
    for image, label in zip(x, feedback, strict=True):
        logits, state = net.predict(net.observe(state, Feedback(label)), image)
        found.append(logits)
    for b in range(EPISODES):
        revealed = [t for t in range(STEPS) if feedback[t, b] >= 0]
        rows = [t - delay for t in revealed]
        label = torch.full((STEPS,), -1)
        label[rows] = feedback[revealed, b]
        learner, _ = plainly_trained(net, x[:, b], label, [[row] for row in rows])
        statistics = tuple(each.clone() for each in learner.body.running_statistics())
        wanted = learner(F.adaptive_avg_pool2d(x[-1, b, None], 16), statistics)[0][0]
        torch.testing.assert_close(found[-1][b], wanted, rtol=1e-5, atol=1e-7)
        assert int(state["squares"]["count"]["body"][b]) == 7 + len(rows)


def test_absorbing_a_stream_gives_the_state_of_stepping() -> None:
    net, (x, feedback) = a_reptile("continual", 1).eval(), noisy_stream(1)
    first_part = net.absorb(net.start(EPISODES), x[:3], Feedback(feedback[:3]))
    whole = net.absorb(first_part, x[3:], Feedback(feedback[3:]))
    torch.testing.assert_close(whole, stepped(net, x, feedback)[1])


def test_batches_are_passes_laid_end_to_end() -> None:
    batches = batches_over(6, 4, 5)
    assert [len(each) for each in batches] == [4] * 5
    line = [pair for batch in batches for pair in batch]
    assert line[:6] == list(range(6))
    assert sorted(line[6:12]) == sorted(line[12:18]) == list(range(6))
    assert line[6:12] != line[12:18]
    assert batches_over(3, 10, 2)[0] == [0, 1, 2]


@pytest.mark.parametrize("ways", [WAYS, WAYS + 1])
def test_the_pretraining_method_of_a_stream_is_the_same_net_on_support_sets(ways: int) -> None:
    net = a_reptile("delayed_label", 2, pretext_lr=0.02)
    pretraining = net.pretraining_method(Task(ways, (1, 28, 28), "n_way_k_shot"))
    assert isinstance(pretraining, Reptile)
    assert (net.inner_lr, pretraining.inner_lr) == (0.01, 0.02)
    before = {name: each.clone() for name, each in net.state_dict().items()}
    pretraining.double().train()
    with torch.no_grad():
        episode_loss(pretraining, some_episodes())
        for each in pretraining.parameters():
            each.add_(0.1)
    moved = {name for name, each in net.state_dict().items() if not torch.equal(each, before[name])}
    parts = {"body", "classify"} if ways == WAYS else {"body"}
    assert moved == {name for name in before if parts & set(name.split("."))}
    assert a_reptile().pretraining_method(net.task) is None


def test_impossible_options_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="asked for by transductive=true"):
        a_reptile(norm="batch")
    with pytest.raises(ValueError, match="asked for by transductive=true"):
        a_reptile(norm="layer", transductive=True)
