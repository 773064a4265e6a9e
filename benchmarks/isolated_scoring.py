"""What isolation costs: scoring in a worker against scoring in this process, at equal batch and threads.

    python benchmarks/isolated_scoring.py [--methods protonet cl_lstm maml] [--episodes 100] [--repeats 3]

On the stand-in of a protocol, so that nothing need be downloaded. Both score the same episodes in turn, several times;
printed are medians of wall time and of CPU time (this process and its worker together), and the start of a worker by
itself. Linux only.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness.data.open_dataset import load_dataset
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.isolated import played, player_of
from harness.method.options import resolved_options
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import for_data, load_protocol


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", default="omniglot_5way_online")
    parser.add_argument("--methods", nargs="+", default=["nearest_pixel", "protonet", "maml", "cl_lstm"])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    protocol: Any = for_data(load_protocol(args.protocol), "stand-in")
    source = EpisodeSource(load_dataset(protocol.dataset))
    card = source.dataset.card
    print(f"{args.protocol} on {card.name}, {args.episodes} episodes, one thread, median of {args.repeats}")
    print(f"{'method':<16}{'here, s':>10}{'worker, s':>11}{'ratio':>8}{'CPU ratio':>11}{'start, s':>10}")
    for name in args.methods:
        loaded = load_method(name)
        options = resolved_options(loaded.cls, {})
        task = task_for(loaded.cls, protocol, card.image_shape, card.classes["train"])
        method = build_method(loaded.cls, task, options, 0)
        score = functools.partial(evaluate, source=source, protocol=protocol, split="test", episodes=args.episodes)
        here, there = [], []
        score(method)
        for _ in range(args.repeats):
            here.append(timed(functools.partial(score, method), os.getpid()))
            began = time.perf_counter()
            with played(player_of(loaded, method, options, 0)) as remote:
                start = time.perf_counter() - began
                worker = youngest(remote.worker.process.pid)
                score(remote)
                there.append((*timed(functools.partial(score, remote), os.getpid(), worker), start))
        (wall, cpu), (wall_there, cpu_there, start) = (
            map(statistics.median, zip(*each, strict=True)) for each in (here, there)
        )
        ratio = wall_there / wall, cpu_there / cpu
        print(f"{name:<16}{wall:>10.2f}{wall_there:>11.2f}{ratio[0]:>8.2f}{ratio[1]:>11.2f}{start:>10.1f}", flush=True)


def timed(call: Callable[[], Any], *processes: int) -> tuple[float, float]:
    """Seconds on the clock, and of CPU time of these processes together."""
    before, began = sum(map(cpu_seconds, processes)), time.perf_counter()
    call()
    return time.perf_counter() - began, sum(map(cpu_seconds, processes)) - before


def cpu_seconds(process: int) -> float:
    """CPU time of a process, all its threads together."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def youngest(process: int) -> int:
    """The last of a chain of children: the worker itself, whatever it was started through."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    return youngest(int(children[-1])) if children else process


if __name__ == "__main__":
    main()
