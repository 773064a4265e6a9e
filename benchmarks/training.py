"""How fast methods train, beside a plain loop over episodes and steps.

    python benchmarks/training.py [CASE ...] [--device cpu] [--threads 1] [--rounds 3] [--budget quick]

An update is a loss on the episodes of one batch and its gradient, at the options and batch of the method's recipe,
on random pixels in the shape of the data set. Three ways of it:

- harness: what `harness run` does (`rollout` or `absorb` of the method, where it has one);
- stepped: the method's `observe` and `predict`, a step after another, for all episodes at once;
- loop: one episode after another, one step after another. For learners by gradient the loop is written out here with
  `torch.autograd.grad` over that episode's weights, as a first version of the method would be.

All three compute the same loss, which is asserted: batch normalisation is fixed to that end, since its statistics
would not be the same ones. Each figure is the median of the rounds, after one that is not counted; the ways take
turns, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from episodes import machine
from tabulate import tabulate
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from harness.data.dataset import Dataset, card_table
from harness.episodes.plan import SUPPORT
from harness.episodes.source import Episodes, EpisodeSource
from harness.evaluation.rollout import feedback_of, step_through
from harness.method.interface import Feedback, Method
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import load_protocol
from harness.training.episode_loss import episode_loss
from harness.training.interface import Batch, training_hooks
from harness.training.recipe import staged
from harness.training.recipe_file import load_budget, recipe_path
from harness.util.allocator import keep_freed_memory
from harness.util.shipped_files import protocol_files
from methods.nn.gradient_learner import pool

ONLINE, CONTINUAL, SUPPORT_SETS = "omniglot_5way_online", "omniglot_continual5", "omniglot_20way_1shot"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{
        name: (name, ONLINE, {})
        for name in ("lstm", "ntm", "transformer", "opn", "cpm", "matching_online", "apl", "cnn_lstm", "cl_lstm")
    },
    **{name: (name, CONTINUAL, {}) for name in ("oml", "anml")},
    **{name: (name, SUPPORT_SETS, {}) for name in ("maml", "norml")},
    "maml-84": ("maml", "miniimagenet_5way_1shot", {"channels": 32, "inner_steps": 5, "resolution": None}),
}
"""What is timed, by name: the method, the protocol, and options over those of its recipe."""

Loss = Callable[[Method, Episodes], Tensor]
"""The loss of a batch, averaged over its episodes."""


def first_scored(episodes: Episodes) -> int:
    """Where the steps begin that training looks at: the queries, if there are any."""
    return episodes.plan.first_query % episodes.plan.steps


def loss_of(method: Method, logits: Tensor, target: Tensor, scored: Tensor) -> Tensor:
    """The method's own loss of some answered steps [A, B, ways]."""
    return training_hooks(method).loss(logits, Batch(target, target, scored, len(target), target[:0]))


def stepped(method: Method, episodes: Episodes) -> Tensor:
    """All episodes at once, one step after another."""
    first = first_scored(episodes)
    logits = step_through(method, episodes)[0][first - episodes.plan.steps :]
    return loss_of(method, logits, episodes.target[first:], episodes.scored[first:])


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
        weights = [_ready(each[0]) for pair in learner.start(1) for each in pair]
        rates = [rate for rate in learner.rates for _ in range(2)]

        def answer(x: Tensor, weights: list[Tensor]) -> Tensor:
            for n in range(0, len(weights), 2):
                x = F.linear(x if n == 0 else x.relu(), weights[n], weights[n + 1])
            return x

        first = first_scored(episodes)
        for t in range(first):
            features = method.represent(episodes.x[t, b, None])
            inner = F.cross_entropy(answer(features, weights), episodes.target[t, b, None])
            weights = _descended(weights, inner, rates)
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
        weights = [*net.parameters(), _ready(weight[0]), _ready(bias[0])]
        of_head = method.head.rates[0]
        rates = [*method.log_rates.exp(), of_head, of_head]

        def answer(x: Tensor, weights: list[Tensor]) -> Tensor:
            gates = method.gate(x)
            features = functional_call(net, dict(zip(names, weights[:-2], strict=True)), (x,))
            return F.linear(features * gates, weights[-2], weights[-1])

        first = first_scored(episodes)
        for t in range(first):
            inner = F.cross_entropy(answer(episodes.x[t, b, None], weights), episodes.target[t, b, None])
            weights = _descended(weights, inner, rates)
        for t in range(first, episodes.plan.steps):
            total = total + F.cross_entropy(answer(episodes.x[t, b, None], weights), episodes.target[t, b, None])
    return total / episodes.target.shape[1]


def maml_loop(method: Any, episodes: Episodes) -> Tensor:
    """MAML on support sets, queries normalised by the moments of the support set."""
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
            weights = _descended(weights, F.cross_entropy(logits, labels), [method.inner_lr] * len(weights))
        last = dict(zip(names, weights, strict=True))
        _, moments = functional_call(net, last, support)
        logits, _ = functional_call(net, last, (x[b, first:], moments))
        total = total + F.cross_entropy(logits, episodes.target[first:, b], reduction="sum")
    return total / len(x)


def _ready(weight: Tensor) -> Tensor:
    """The weight, ready for a gradient even if it is fixed at the start of every episode."""
    return weight if weight.requires_grad else weight.detach().requires_grad_()


def _descended(weights: Sequence[Tensor], loss: Tensor, rates: Sequence[Tensor | float]) -> list[Tensor]:
    slopes = torch.autograd.grad(loss, weights, create_graph=True)
    return [weight - rate * slope for weight, rate, slope in zip(weights, rates, slopes, strict=True)]


WRITTEN_OUT: dict[str, Loss] = {"oml": oml_loop, "anml": anml_loop, "maml": maml_loop, "norml": task_loop}


@dataclass(frozen=True)
class Bench:
    """A method with the episodes of one update."""

    method_name: str
    protocol: str
    batch: int
    method: Method
    episodes: Episodes


def bench_of(name: str, budget: str, device: str) -> Bench:
    """A case's method as its recipe builds it, and a batch of the last stage of the recipe on random pixels."""
    method_name, protocol_name, options = CASES[name]
    loaded, found = load_protocol(protocol_files()[protocol_name]), load_method(method_name)
    card = loaded.protocol.card
    plan = load_budget(recipe_path(method_name, found.own_file), loaded, budget)
    stage = plan.stages[-1]
    protocol = staged(loaded.protocol, stage.episode)
    task = task_for(found.cls, protocol, card.image_shape)
    method = build_method(found.cls, task, plan.options | options, 0, device).train()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    table = card_table(card, "train")
    images = np.random.default_rng(0).integers(0, 256, (int(table.members.max()) + 1, *card.image_shape), np.uint8)
    source = EpisodeSource(Dataset(card, images, (), {"train": table}, "", "random pixels"), torch.device(device))
    batch = stage.batch or plan.batch
    return Bench(method_name, protocol_name, batch, method, source.episodes(protocol, "train", 0, np.arange(batch)))


def seconds(bench: Bench, loss: Loss) -> tuple[float, float]:
    """Seconds of one update without the optimiser's step, and the loss."""
    bench.method.zero_grad(set_to_none=True)
    cuda = bench.episodes.x.is_cuda
    if cuda:
        torch.cuda.synchronize()
    begun = time.perf_counter()
    value = loss(bench.method, bench.episodes)
    value.backward()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begun, value.item()


def timed(bench: Bench, rounds: int) -> list[float]:
    """Median seconds of an update by the harness, stepped, and by the loop; their losses must agree."""
    ways: list[Loss] = [episode_loss, stepped, WRITTEN_OUT.get(bench.method_name, loop)]
    found: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        values = []
        for way, times in zip(ways, found, strict=True):
            spent, value = seconds(bench, way)
            values.append(value)
            if number:
                times.append(spent)
        if not np.allclose(values, values[0], rtol=1e-2):
            raise SystemExit(f"{bench.method_name}: the three ways have the losses {values}")
    return [statistics.median(times) for times in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", choices=[[], *CASES], help="all of them if none is named")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", default="quick", choices=["smoke", "quick", "full"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as every run does

    rows = []
    gpu = f"{torch.cuda.get_device_name()} beside " if args.device.startswith("cuda") else ""
    print(f"{gpu}{machine()}; {args.threads} thread(s)", flush=True)
    for name in args.case or CASES:
        bench = bench_of(name, args.budget, args.device)
        ours, by_step, plain = timed(bench, args.rounds)
        rates = [f"{bench.batch / each:.3g}" for each in (ours, by_step, plain)]
        rows.append([name, bench.protocol, bench.batch, *rates, f"{by_step / ours:.2f}", f"{plain / ours:.2f}"])
        print(f"{name}: {rates[0]} episodes/s, {rows[-1][-1]} times the loop", flush=True)
    heads = ["case", "protocol", "batch", "episodes/s", "stepped", "loop", "to stepped", "to loop"]
    print(tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
