"""Training as a first version of a method would have it: one episode after another, one step after another.

Learners by gradient are written out with `torch.autograd.grad` over the weights of one episode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from harness.episodes.plan import SUPPORT
from harness.episodes.source import Episodes
from harness.evaluation.rollout import feedback_of
from harness.method.interface import Feedback, Method
from harness.training.interface import Batch, training_hooks
from methods.nn.gradient_learner import pool

Loss = Callable[[Method, Episodes], Tensor]
"""The loss of a batch, averaged over its episodes."""


def first_scored(episodes: Episodes) -> int:
    """Where the steps begin that training looks at: the queries, if there are any."""
    return episodes.plan.first_query % episodes.plan.steps


def loss_of(method: Method, logits: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """The method's own loss of some answered steps [A, B, ways]."""
    return training_hooks(method).loss(logits, Batch(target, target, scored, len(target), target[:0]))


def loop(method: Method, episodes: Episodes) -> Tensor:
    """One episode after another, one step after another, one query after another."""
    plan, feedback, first = episodes.plan, feedback_of(episodes).target, first_scored(episodes)
    total = torch.zeros(())
    for b in range(episodes.target.shape[1]):
        own = slice(b, b + 1)
        state = method.start(1)
        for t in range(plan.steps):
            x, target = episodes.x[t, own], episodes.target[t, own]
            if plan.phase[t] == SUPPORT:
                state = method.observe(state, Feedback(target, x))
                continue
            if t < plan.first_query:
                state = method.observe(state, Feedback(feedback[t, own]))
                logits, state = method.predict(state, x)
            else:
                if t == plan.first_query:
                    state = method.observe(state, Feedback(feedback[t, own])) if plan.feedback_step[t] >= 0 else state
                    state = method.adapt(state)
                logits = method.query(state, x.unsqueeze(1))[:, 0]
            if t >= first and episodes.scored[t, b]:
                total = total + loss_of(method, logits[None], target[None], episodes.scored[t, own][None])
    return total / episodes.target.shape[1]


def task_loop(method: Method, episodes: Episodes) -> Tensor:
    """One support set after another, each with all its queries at once."""
    first = first_scored(episodes)
    total = torch.zeros(())
    for b in range(episodes.target.shape[1]):
        state, own = method.start(1), slice(b, b + 1)
        for t in range(first):
            state = method.observe(state, Feedback(episodes.target[t, own], episodes.x[t, own]))
        logits = method.query(method.adapt(state), episodes.x[first:, own].transpose(0, 1)).transpose(0, 1)
        total = total + loss_of(method, logits, episodes.target[first:, own], episodes.scored[first:, own])
    return total / episodes.target.shape[1]


# Learners by gradient, each as its equations read: weights of one episode, a gradient a label.


def oml_loop(method: Any, episodes: Episodes) -> Tensor:
    """OML with one or more linear layers over the convolutional net."""
    learner = method.learner
    total = torch.zeros(())
    for b in range(episodes.target.shape[1]):
        weights = [require_grad(each[0]) for pair in learner.start(1) for each in pair]
        rates = [rate for rate in learner.rates for _ in range(2)]

        def answer(x: Tensor, weights: list[Tensor]) -> Tensor:
            for n in range(0, len(weights), 2):
                x = F.linear(x if n == 0 else x.relu(), weights[n], weights[n + 1])
            return x

        first = first_scored(episodes)
        for t in range(first):
            features = method.represent(episodes.x[t, b, None])
            inner = F.cross_entropy(answer(features, weights), episodes.target[t, b, None])
            weights = sgd_step(weights, inner, rates)
        for t in range(first, episodes.plan.steps):
            features = method.represent(episodes.x[t, b, None])
            total = total + F.cross_entropy(answer(features, weights), episodes.target[t, b, None])
    return total / episodes.target.shape[1]


def anml_loop(method: Any, episodes: Episodes) -> Tensor:
    """ANML whose convolutions and linear layer both learn, under gates that do not."""
    net = method.trunk
    names = [name for name, _ in net.named_parameters()]
    total = torch.zeros(())
    for b in range(episodes.target.shape[1]):
        ((weight, bias),) = method.head.start(1)
        weights = [*net.parameters(), require_grad(weight[0]), require_grad(bias[0])]
        of_head = method.head.rates[0]
        rates = [*method.log_rates.exp(), of_head, of_head]

        def answer(x: Tensor, weights: list[Tensor]) -> Tensor:
            gates = method.gate(x)
            features = functional_call(net, dict(zip(names, weights[:-2], strict=True)), (x,))
            return F.linear(features * gates, weights[-2], weights[-1])

        first = first_scored(episodes)
        for t in range(first):
            inner = F.cross_entropy(answer(episodes.x[t, b, None], weights), episodes.target[t, b, None])
            weights = sgd_step(weights, inner, rates)
        for t in range(first, episodes.plan.steps):
            total = total + F.cross_entropy(answer(episodes.x[t, b, None], weights), episodes.target[t, b, None])
    return total / episodes.target.shape[1]


def maml_loop(method: Any, episodes: Episodes) -> Tensor:
    """MAML on support sets, queries normalised by the batch statistics of the support set."""
    net = method.learner
    names = [name for name, _ in net.named_parameters()]
    first = first_scored(episodes)
    x = pool(episodes.x.transpose(0, 1), method.resolution)
    total = torch.zeros(())
    for b in range(len(x)):
        weights: list[Tensor] = list(net.parameters())
        support, labels = (x[b, :first],), episodes.target[:first, b]
        for _ in range(method.steps[0]):
            logits, _ = functional_call(net, dict(zip(names, weights, strict=True)), support)
            weights = sgd_step(weights, F.cross_entropy(logits, labels), [method.inner_lr] * len(weights))
        last = dict(zip(names, weights, strict=True))
        _, statistics = functional_call(net, last, support)
        logits, _ = functional_call(net, last, (x[b, first:], statistics))
        total = total + F.cross_entropy(logits, episodes.target[first:, b], reduction="sum")
    return total / len(x)


def require_grad(weight: Tensor) -> Tensor:
    """The weight, ready for a gradient even if it is fixed at the start of every episode."""
    return weight if weight.requires_grad else weight.detach().requires_grad_()


def sgd_step(weights: Sequence[Tensor], loss: Tensor, rates: Sequence[Tensor | float]) -> list[Tensor]:
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    return [weight - rate * gradient for weight, rate, gradient in zip(weights, rates, gradients, strict=True)]


WRITTEN_OUT: dict[str, Loss] = {"oml": oml_loop, "anml": anml_loop, "maml": maml_loop, "norml": task_loop}
