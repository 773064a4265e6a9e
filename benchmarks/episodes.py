"""How fast episodes are made, stage by stage, beside bare NumPy and loaders that work item by item.

    python benchmarks/episodes.py [--batch 32] [--episodes 2048] [--threads 1]

An episode has the images of 5-way 1-shot with 15 queries per class: 5 x 16 = 80 images of 3x32x32, drawn
from 60 000 uint8 images in memory, and planned as a stream of 5 ways x 16 presentations. Each figure is the
median of five rounds after one that is not counted; `ratio` is to the bare line of its group in the same run, which
only gathers images by numbers that are there already. Reading: byte tensors are what goes to a GPU, where the rest is
done there; an episode of floats is 0.98 MB, so 10 000 a second are 9.8 GB of writing a second, and `write floats` is
what this machine needs for that alone. The sampler of easyfsl is measured where that package is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.data.cards import CARDS, Card
from harness.data.dataset import Dataset as ImageSet
from harness.data.dataset import card_table
from harness.episodes.plan import plan_episodes
from harness.episodes.source import EpisodeSource
from harness.protocol.models import PROTOCOL
from harness.util.allocator import keep_freed_memory

WAYS, PER_CLASS, IMAGES_PER_CLASS, IMAGES, ROUNDS = 5, 16, 600, 60_000, 5
PROTOCOL_80 = PROTOCOL.validate_python(
    {
        "kind": "online_few_shot",
        "title": "80 images of 5 classes",
        "dataset": "cifar_fs",
        "episode": {"ways": WAYS, "presentations": PER_CLASS},
        "scoring": {"shots": [0], "test_episodes": 1},
    }
)


FLOATS, BYTES = "bare NumPy: gather and normalise", "bare NumPy: gather bytes"

# The ordinary way: a sampler of item numbers, a data set of single items, collation by the loader.


class Items(Dataset[tuple[Tensor, int]]):
    """Single images, converted one at a time."""

    def __init__(self, images: np.ndarray, mean: Tensor, std: Tensor) -> None:
        self.images, self.mean, self.std = torch.from_numpy(images), mean.view(-1, 1, 1), std.view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.images)

    def get_labels(self) -> list[int]:
        """The class of every item, as easyfsl reads it."""
        return [number // IMAGES_PER_CLASS for number in range(len(self.images))]

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return (self.images[number].float() / 255 - self.mean) / self.std, number // IMAGES_PER_CLASS


class EpisodeSampler(Sampler[list[int]]):
    """The item numbers of one episode after another."""

    def __init__(self, episodes: int, classes: int) -> None:
        self.episodes, self.classes = episodes, classes

    def __iter__(self) -> Iterator[list[int]]:
        draw = np.random.default_rng(0)
        for _ in range(self.episodes):
            yield [
                int(row) * IMAGES_PER_CLASS + int(image)
                for row in draw.choice(self.classes, WAYS, replace=False)
                for image in draw.choice(IMAGES_PER_CLASS, PER_CLASS, replace=False)
            ]

    def __len__(self) -> int:
        return self.episodes


def easyfsl_loader(items: Items, episodes: int) -> DataLoader[tuple[Tensor, int]]:
    """The same episodes by easyfsl: 1 shot and 15 queries of each class."""
    from easyfsl.samplers import TaskSampler

    sampler = TaskSampler(items, n_way=WAYS, n_shot=1, n_query=PER_CLASS - 1, n_tasks=episodes)
    return DataLoader(items, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)


def rate(work: Callable[[], object], episodes: int) -> float:
    """Episodes a second: median of the rounds."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return episodes / statistics.median(seconds)


def in_batches(work: Callable[[np.ndarray], object], episodes: int, batch: int) -> Callable[[], None]:
    """Does all episode numbers, a batch at a time; other numbers in every round, so that caches stay cold."""
    first = 0

    def once() -> None:
        nonlocal first
        for start in range(0, episodes, batch):
            work(np.arange(first + start, first + min(start + batch, episodes)))
        first += episodes

    return once


def bare_normalisation(card: Card) -> tuple[np.ndarray, np.ndarray]:
    """What bytes are multiplied with, and what is added then, float32 [C, 1, 1] each."""
    mean, std = (np.array(each, np.float32).reshape(-1, 1, 1) for each in (card.mean, card.std))
    return 1 / (255 * std), -mean / std


def machine() -> str:
    """One line that names the processor, its cores and the versions that matter."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} cores{load}; torch {torch.__version__}, numpy {np.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="episodes made at once")
    parser.add_argument("--episodes", type=int, default=2048, help="episodes a round")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as every run does

    card = replace(CARDS["cifar_fs"], classes=dict.fromkeys(CARDS["cifar_fs"].classes, 64))
    table = card_table(CARDS["cifar_fs"], "train")
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *card.image_shape), dtype=np.uint8)
    source = EpisodeSource(ImageSet(card, images, (), {"train": table}, "", "random pixels"))
    numbers = torch.from_numpy(np.random.default_rng(1).integers(0, IMAGES, (args.episodes, 80)))
    pixels = torch.from_numpy(images)
    floats = torch.empty(args.batch * 80, *card.image_shape)

    def gather(batch: np.ndarray) -> Tensor:
        return torch.index_select(pixels, 0, numbers[batch % args.episodes].flatten())

    def loader(episodes: int) -> DataLoader[tuple[Tensor, int]]:
        items = Items(images, torch.tensor(card.mean), torch.tensor(card.std))
        return DataLoader(items, batch_sampler=EpisodeSampler(episodes, 64))

    few = max(1, args.episodes // 8)
    stages: list[tuple[str, float, str]] = []

    def add(name: str, work: Callable[[np.ndarray], object], batch: int = args.batch, bare: str = "") -> None:
        stages.append((name, rate(in_batches(work, args.episodes, batch), args.episodes), bare))

    def bare_bytes(batch: np.ndarray) -> np.ndarray:
        return images[numbers[batch % args.episodes].numpy()]

    scale, shift = bare_normalisation(card)

    def bare_floats(batch: np.ndarray) -> np.ndarray:
        gathered = bare_bytes(batch).astype(np.float32)
        gathered *= scale
        gathered += shift
        return gathered

    add(FLOATS, bare_floats)
    add(
        f"episodes as float tensors, {args.batch} at a time",
        lambda batch: source.episodes(PROTOCOL_80, "train", 0, batch),
        bare=FLOATS,
    )
    add(
        "episodes with flip and crop",
        lambda batch: source.episodes(PROTOCOL_80, "train", 0, batch, ("flip", "crop")),
        bare=FLOATS,
    )
    add(BYTES, bare_bytes, 128)
    add(
        "episodes as byte tensors, 128 at a time",
        lambda batch: source.pixels(PROTOCOL_80, "train", 0, batch),
        128,
        bare=BYTES,
    )
    for batch in (args.batch, 256):
        add(
            f"  plans alone, {batch} at a time",
            lambda numbers: plan_episodes(PROTOCOL_80, table, "train", 0, numbers),
            batch,
        )
    add("  gather bytes alone, torch", gather)
    add("  write floats alone", lambda batch: floats[: len(batch) * 80].fill_(1.0))
    stages.append(("ordinary DataLoader, item by item", rate(lambda: [0 for _ in loader(few)], few), FLOATS))
    if importlib.util.find_spec("easyfsl"):
        items = Items(images, torch.tensor(card.mean), torch.tensor(card.std))
        stages.append(("easyfsl's TaskSampler", rate(lambda: [0 for _ in easyfsl_loader(items, few)], few), FLOATS))
    rates = {name: each for name, each, _ in stages}
    rows = [
        (name, str(round(each)), f"{1e6 / each:.1f}", f"{each / rates[bare]:.2f}" if bare else "")
        for name, each, bare in stages
    ]
    print(f"{machine()}; {args.threads} thread(s), median of {ROUNDS} rounds of {args.episodes} episodes")
    print(
        tabulate(
            rows, headers=["what", "episodes/s", "µs an episode", "ratio"], tablefmt="github", disable_numparse=True
        )
    )


if __name__ == "__main__":
    main()
