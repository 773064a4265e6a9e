"""PLATIPUS against torch's own distributions, MAML, and a plain loop over episodes and samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from harness.evaluation.rollout import step_through
from harness.method.interface import Task
from harness.training.episode_loss import episode_loss
from harness.training.interface import Batch
from harness.util.errors import UserError
from methods.maml import MAML
from methods.platipus import PLATIPUS, divergence
from tests.helpers.maml import (
    EPISODES,
    WAYS,
    adapted,
    assert_nearly,
    k_shot_protocol,
    meta_gradients,
    plain_answers,
    plain_step,
    some_episodes,
    start_weights,
)
from tests.helpers.stepping import seeded

TASK = Task(WAYS, (1, 28, 28), "n_way_k_shot")
NET: dict[str, Any] = {"channels": 3, "inner_lr": 0.3, "inner_steps": 2, "resolution": 16}
SMALL: dict[str, Any] = {"samples": 3, "gamma": 0.2, "deviation": 0.05}
FEW = 6
"""Support images of an episode."""


def a_platipus(**options: Any) -> PLATIPUS:
    """In double precision and training, with deviations that differ from weight to weight."""
    with seeded(4):
        net = PLATIPUS(TASK, **{**SMALL, **NET, **options}).double().train()
        for each in (*net.log_sigma, *net.log_v):
            each.data.add_(0.3 * torch.rand_like(each))
        net.gamma_q.data.fill_(1.7)
    return net


def drawn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_divergence_is_that_of_torchs_gaussians() -> None:
    shapes = [(4, 3), (5,)]
    q, p = ({str(n): drawn(2, *shape, seed=seed) for n, shape in enumerate(shapes)} for seed in (1, 2))
    log_v, log_sigma = ([0.5 * drawn(*shape, seed=seed) for shape in shapes] for seed in (3, 4))
    wanted = torch.zeros(2, dtype=torch.float64)
    for n, (v, sigma) in enumerate(zip(log_v, log_sigma, strict=True)):
        each = kl_divergence(Normal(q[str(n)], v.exp()), Normal(p[str(n)], sigma.exp()))
        wanted += each.flatten(1).sum(1)
    torch.testing.assert_close(divergence(q, log_v, p, log_sigma), wanted)


def mean_of(net: PLATIPUS, x: Tensor, labels: Tensor, gamma: Tensor) -> dict[str, Tensor]:
    """The mean of p or q for one episode."""
    mu = start_weights(net)
    logits, _ = plain_answers(net, mu, x, None)
    names = adapted(mu)
    found = torch.autograd.grad(F.cross_entropy(logits, labels), [mu[name] for name in names], create_graph=True)
    steps = {name: each.detach() if net.first_order else each for name, each in zip(names, found, strict=True)}
    return {name: each - net.gamma * gamma * steps[name] if name in steps else each for name, each in mu.items()}


CASES: dict[str, dict[str, Any]] = {
    "conv": {},
    "conv, as the source of MAML normalises": {"norm": "source"},
    "dense": {"first_order": True, "net": "dense", "rate": "layer"},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_training_minimises_the_queries_loss_from_q_and_the_divergence(options: dict[str, Any]) -> None:
    net, episodes = a_platipus(**options), some_episodes(k_shot_protocol())
    with seeded(1):
        found = episode_loss(net, episodes)
        torch.manual_seed(1)
        noise = [torch.randn(EPISODES, *each.shape, dtype=torch.float64) for each in net.log_v]
    total = torch.zeros((), dtype=torch.float64)
    for b in range(EPISODES):
        x, labels = episodes.x[:, b], episodes.target[:, b]
        p = mean_of(net, x[:FEW], labels[:FEW], net.gamma_p)
        q = mean_of(net, x[FEW:], labels[FEW:], net.gamma_q)
        weights = dict(q)
        for name, log_v, log_sigma, own in zip(adapted(q), net.log_v, net.log_sigma, noise, strict=True):
            weights[name] = q[name] + log_v.exp() * own[b]
            divergences = kl_divergence(Normal(q[name], log_v.exp()), Normal(p[name], log_sigma.exp()))
            total = total + net.kl_weight * divergences.sum()
        for _ in range(2):
            weights = plain_step(net, weights, x[:FEW], labels[:FEW])
        logits, _ = plain_answers(net, weights, x[FEW:], plain_answers(net, weights, x[:FEW], None)[1])
        total = total + F.cross_entropy(logits, labels[FEW:], reduction="sum")
    wanted = total / EPISODES
    assert_nearly(found.double(), wanted)
    assert_nearly(meta_gradients(net, found), meta_gradients(net, wanted))


@pytest.mark.parametrize("norm", ["support", "source"])
def test_scoring_averages_probabilities_over_starts_sampled_from_p(norm: str) -> None:
    net, episodes = a_platipus(norm=norm), some_episodes(k_shot_protocol())
    net.eval()
    logits, _ = step_through(net, episodes)
    assert not logits.requires_grad
    noise = net._noise()
    assert len({float(each.flatten()[0]) for each in noise[0]}) == 3
    for b in range(EPISODES):
        x, labels = episodes.x[:, b], episodes.target[:, b]
        p = mean_of(net, x[:FEW], labels[:FEW], net.gamma_p)
        probabilities = torch.zeros(len(x) - FEW, WAYS, dtype=torch.float64)
        for sample in range(3):
            weights = dict(p)
            for name, log, own in zip(adapted(p), net.log_sigma, noise, strict=True):
                weights[name] = p[name] + log.exp() * own[sample]
            for _ in range(2):
                weights = plain_step(net, weights, x[:FEW], labels[:FEW])
            statistics = plain_answers(net, weights, x[:FEW], None)[1]
            probabilities += plain_answers(net, weights, x[FEW:], statistics)[0].softmax(1) / 3
        assert_nearly(logits[:, b], probabilities.log())


def test_without_deviations_and_steps_from_mu_it_is_maml() -> None:
    episodes = some_episodes(k_shot_protocol())
    net = PLATIPUS(TASK, **{**SMALL, **NET, "gamma": 0.0, "deviation": 1e-12}).double().train()
    maml = MAML(TASK, **NET).double().train()
    maml.learner.load_state_dict(net.learner.state_dict())
    found, wanted = episode_loss(net, episodes), episode_loss(maml, episodes)
    assert_nearly(found, wanted.double())
    own = [torch.autograd.grad(loss, list(each.learner.parameters())) for loss, each in ((found, net), (wanted, maml))]
    assert_nearly(own[0], own[1])
    logits, plain = (step_through(each.eval(), episodes)[0] for each in (net, maml))
    torch.testing.assert_close(logits, plain.log_softmax(-1))


def test_new_noise_in_training_is_the_harness_seeds_and_in_scoring_there_is_none() -> None:
    net, episodes = a_platipus(), some_episodes(k_shot_protocol())
    with torch.random.fork_rng(devices=[]):
        losses = []
        for seed in (1, 2, 1):
            torch.manual_seed(seed)
            losses.append(float(episode_loss(net, episodes).detach()))
        net.eval()
        answers = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            answers.append(step_through(net, episodes)[0])
    assert losses[0] == losses[2] != losses[1]
    assert torch.equal(answers[0], answers[1])


def test_its_pretraining_method_is_maml_with_its_mean() -> None:
    net = a_platipus()
    maml = net.pretraining_method(TASK)
    assert type(maml) is MAML
    with torch.no_grad():
        for each in maml.parameters():
            each.add_(0.1)
    assert all(map(torch.equal, maml.learner.parameters(), net.learner.parameters()))
    assert maml.steps == net.steps
    assert maml.inner_lr == net.inner_lr


def test_a_stage_without_queries_is_refused_in_a_sentence() -> None:
    batch = Batch(torch.rand(6, 2, 1, 16, 16), torch.zeros(6, 2).long(), torch.ones(6, 2).bool(), 6, torch.zeros(2, 3))
    with pytest.raises(UserError, match="the loss of PLATIPUS is over queries"):
        PLATIPUS(Task(3, (1, 16, 16), "n_way_k_shot"), channels=4).episode_loss(batch)
