"""How fast methods train, beside a plain loop over episodes and steps.

    python benchmarks/training.py [CASE ...] [--device cpu] [--threads 1] [--rounds 3] [--budget quick]
    python benchmarks/training.py [CASE ...] --against CHECKOUT [--scoring] [--rounds 3] [--budget quick] [--batch N]
        [--precision bf16]

An update is a loss on the episodes of one batch and its gradient, at the options and batch of the method's recipe,
on random pixels in the shape of the data set. Three ways of it:

- harness: what `harness run` does (`rollout` or `absorb` of the method, where it has one);
- stepped: the method's `observe` and `predict`, a step after another, for all episodes at once;
- loop: one episode after another, one step after another. For learners by gradient the loop is written out here with
  `torch.autograd.grad` over that episode's weights, as a first version of the method would be.

All three compute the same loss, which is asserted: batch normalisation is fixed to that end, since its statistics
would not be the same ones. Each figure is the median of the rounds, after one that is not counted; the ways take
turns, so that what else the machine does falls on all of them.

`--against` another checkout of the project (`git worktree add CHECKOUT COMMIT`) compares whole updates there and here,
in turns, on one thread, by CPU time or, on a GPU, by the clock (`updates.py`); with `--scoring`, the scoring of
episodes there and here.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from episodes import machine
from plain_loops import WRITTEN_OUT, Loss, first_scored, loop, loss_of
from tabulate import tabulate
from torch import Tensor, nn
from updates import Case, compared

from harness.data.cards import Card
from harness.data.dataset import Dataset, card_table
from harness.episodes.source import Episodes, EpisodeSource
from harness.evaluation.rollout import step_through
from harness.method.interface import Method
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import load_protocol
from harness.training.episode_loss import episode_loss
from harness.training.recipe import staged
from harness.training.recipe_file import load_budget, recipe_path
from harness.util.allocator import keep_freed_memory
from harness.util.shipped_files import protocol_files

ONLINE, CONTINUAL, SUPPORT_SETS = "omniglot_5way_online", "omniglot_continual5", "omniglot_20way_1shot"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{
        name: (name, ONLINE, {})
        for name in ("lstm", "ntm", "transformer", "opn", "cpm", "matching_online", "apl", "cnn_lstm", "cl_lstm")
    },
    **{name: (name, CONTINUAL, {}) for name in ("oml", "anml")},
    **{name: (name, SUPPORT_SETS, {}) for name in ("maml", "norml")},
    **{name: (name, "cifar100_supervised", {}) for name in ("resnet20", "vgg11", "cl_resnet20", "cl_vgg11")},
    "protonet": ("protonet", SUPPORT_SETS, {}),
    **{name: (name, "miniimagenet_5way_1shot", {}) for name in ("platipus", "llama", "reptile", "meta_learner_lstm")},
    "bauer": ("bauer", "miniimagenet_5way_1shot", {}),
    "maml-mini": ("maml", "miniimagenet_5way_1shot", {}),
    "maml-84": ("maml", "miniimagenet_5way_1shot", {"channels": 32, "inner_steps": 5, "resolution": None}),
}
"""What is timed, by name: the method, the protocol, and options over those of its recipe."""
OWN_LOSS = ("platipus", "llama", "reptile")
"""Cases that are for `--against` alone: their methods are trained by more than the loss of their answers, which is all
that a plain loop over these has."""


def stepped(method: Method, episodes: Episodes) -> Tensor:
    """All episodes at once, one step after another."""
    first = first_scored(episodes)
    logits = step_through(method, episodes)[0][first - episodes.plan.steps :]
    return loss_of(method, logits, episodes.target[first:], episodes.scored[first:])


@dataclass(frozen=True)
class Bench:
    """A method with the episodes of one update."""

    method_name: str
    protocol: str
    batch: int
    method: Method
    episodes: Episodes


def random_images(card: Card) -> Dataset:
    """A training split of random pixels, in the shape and number of a data set's."""
    table = card_table(card, "train")
    images = np.random.default_rng(0).integers(0, 256, (int(table.members.max()) + 1, *card.image_shape), np.uint8)
    return Dataset(card, images, (), {"train": table}, "", "random pixels")


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
    source = EpisodeSource(random_images(card), torch.device(device))
    batch = stage.batch or plan.batch
    return Bench(method_name, protocol_name, batch, method, source.episodes(protocol, "train", 0, np.arange(batch)))


def seconds(bench: Bench, loss: Loss) -> tuple[float, float]:
    """Seconds of one update without the optimiser's step, and the loss."""
    bench.method.zero_grad(set_to_none=True)
    cuda = bench.episodes.x.is_cuda
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    value = loss(bench.method, bench.episodes)
    value.backward()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, value.item()


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
    parser.add_argument("--budget", default="quick", choices=["smoke", "quick", "day", "full"])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with another checkout of the project")
    parser.add_argument("--scoring", action="store_true", help="with --against: scoring, in place of updates")
    parser.add_argument("--batch", type=int, help="with --against: episodes an update (default: the recipe's)")
    parser.add_argument("--precision", choices=["tf32", "bf16"], help="with --against: of updates here, not there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as every run does
    if args.against is not None:
        time_of = "CPU time" if args.device == "cpu" else torch.cuda.get_device_name()
        print(f"{machine()}; one thread, {time_of}, median of {args.rounds} rounds", flush=True)
        names = args.case or CASES
        cases = [
            Case(name, *CASES[name], args.budget, args.scoring, args.device, args.batch, args.precision)
            for name in names
        ]
        found = compared(cases, Path(__file__).resolve().parents[1], args.against.absolute(), args.rounds)
        heads = ["case", "protocol", "batch", "there, ms an episode", "here", "times as fast"]
        print(tabulate(found, headers=heads, tablefmt="github", disable_numparse=True))
        return

    if own := [name for name in args.case if name in OWN_LOSS]:
        parser.error(f"{', '.join(own)}: trained by a loss of its own, which no plain loop has; add --against CHECKOUT")
    rows = []
    gpu = f"{torch.cuda.get_device_name()} beside " if args.device.startswith("cuda") else ""
    print(f"{gpu}{machine()}; {args.threads} thread(s)", flush=True)
    for name in args.case or [each for each in CASES if each not in OWN_LOSS]:
        bench = bench_of(name, args.budget, args.device)
        ours, by_step, plain = timed(bench, args.rounds)
        rates = [f"{bench.batch / each:.3g}" for each in (ours, by_step, plain)]
        rows.append([name, bench.protocol, bench.batch, *rates, f"{by_step / ours:.2f}", f"{plain / ours:.2f}"])
        print(f"{name}: {rates[0]} episodes/s, {rows[-1][-1]} times the loop", flush=True)
    heads = ["case", "protocol", "batch", "episodes/s", "stepped", "loop", "to stepped", "to loop"]
    print(tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
