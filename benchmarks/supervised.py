"""How much of the time of supervised training is the network's own, and what the harness adds.

    python benchmarks/supervised.py [--method resnet20] [--batch 128] [--updates 30] [--threads 1] [--device cpu]

`network alone` is forward, backward and a step of SGD on one fixed batch that is already there; `harness` is an update
of `harness run`: other images each time, in the order of the pass, gathered and normalised on the device, mirrored and
cropped, and the loss read. The two take turns, so that other work on the machine hits both alike; figures are medians.
Scoring goes over the whole test set, beside the network alone on one batch over and over. The data are random pixels
in the shape and number of CIFAR-100's: the time does not depend on what is in them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from episodes import machine
from tabulate import tabulate
from torch import Tensor

from harness.data.cards import CARDS
from harness.data.dataset import Dataset, card_table
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.method.interface import Feedback, Method
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.models import PROTOCOL
from harness.training.loop import train
from harness.training.recipe import Budget
from harness.training.state import Limits, Progress, Training
from harness.util.allocator import keep_freed_memory

PROTOCOL_100 = PROTOCOL.validate_python({"kind": "supervised", "title": "CIFAR-100", "dataset": "cifar100"})
SGD: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}


def random_images() -> Dataset:
    """60 000 images of random pixels with the class tables of CIFAR-100."""
    card, draw = CARDS["cifar100"], np.random.default_rng(0)
    tables = {split: card_table(card, split) for split in card.classes}
    count = sum(int(table.offsets[-1]) for table in tables.values())
    images = draw.integers(0, 256, (count, *card.image_shape), dtype=np.uint8)
    return Dataset(card, images, (), tables, "", "random pixels")


class Alone:
    """The same network on one fixed batch, by the plain loop that everybody writes."""

    def __init__(self, method: Method, x: Tensor, target: Tensor) -> None:
        self.method, self.x, self.target = method.train(), x, target
        self.null = Feedback(torch.full_like(target, -1))
        self.optimizer = torch.optim.SGD(method.parameters(), **SGD)

    def update(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.method.rollout(self.x, self.null)
        assert logits is not None
        torch.nn.functional.cross_entropy(logits[0], self.target[0]).backward()
        self.optimizer.step()

    @torch.no_grad()
    def answer(self) -> None:
        self.method.predict(self.method.start(self.x.shape[1]), self.x[0])


class Turns:
    """Told of every update of the harness; lets the network alone do as many, and keeps the time of both."""

    def __init__(self, alone: Alone, each: int, device: torch.device) -> None:
        self.alone, self.each, self.device = alone, each, device
        self.harness: list[float] = []
        self.network: list[float] = []
        self.since = self.now()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def __call__(self, progress: Progress, training: Training, event: str) -> None:
        if event != "update" or progress.updates % self.each:
            return
        middle = self.now()
        for _ in range(self.each):
            self.alone.update()
        end = self.now()
        self.harness.append((middle - self.since) / self.each)
        self.network.append((end - middle) / self.each)
        self.since = self.now()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as every run does
    device = torch.device(args.device)

    source, cls = EpisodeSource(random_images(), device), load_method(args.method).cls
    task = task_for(cls, PROTOCOL_100, CARDS["cifar100"].image_shape, CARDS["cifar100"].classes["train"])
    method, twin = (build_method(cls, task, {}, 0, device) for _ in range(2))
    fixed = source.episodes(PROTOCOL_100, "train", 1, range(args.batch))
    alone = Alone(twin, fixed.x, fixed.target)
    stage = {"name": "all", "episodes": 10**9}
    budget = {"batch": args.batch, "optimizer": {"name": "sgd", **SGD}, "augment": ["flip", "crop"], "stages": [stage]}
    # A GPU works on while the next update is prepared: it must not be waited for after each.
    turns = Turns(alone, 10 if device.type == "cuda" else 1, device)
    limits = Limits(episodes=(args.updates + 2 * turns.each) * args.batch, checkpoint_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "checkpoint.safetensors")
        train(Training(method, source, PROTOCOL_100, Budget.model_validate(budget), 0, checkpoint, {}, limits), turns)
    network, harness = (statistics.median(each[2:]) for each in (turns.network, turns.harness))

    alone.method.eval()
    answering = []
    for _ in range(5):
        began = turns.now()
        alone.answer()
        answering.append((turns.now() - began) / args.batch)
    tested = int(source.dataset.tables["test"].offsets[-1])
    began = turns.now()
    evaluate(method, source, PROTOCOL_100, "test", tested)
    scoring = (turns.now() - began) / tested

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {args.threads} thread(s)"
    print(f"{machine()}; {args.method} on {where}, batch {args.batch}, median of {len(turns.harness) - 2} turns")
    rows = [
        ("update, network alone", network / args.batch, ""),
        ("update, harness", harness / args.batch, f"{harness / network - 1:+.1%}"),
        ("answer, network alone", statistics.median(answering), ""),
        (f"answer, harness ({tested} test images)", scoring, f"{scoring / statistics.median(answering) - 1:+.1%}"),
    ]
    table = [(what, f"{1 / (each * args.batch):.2f}", f"{1 / each:.0f}", over) for what, each, over in rows]
    print(
        tabulate(table, headers=["what", "batches/s", "images/s", "overhead"], tablefmt="github", disable_numparse=True)
    )


if __name__ == "__main__":
    main()
