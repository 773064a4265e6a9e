"""How long it takes from a command to the first update of training, phase by phase.

    python benchmarks/startup.py [--protocol omniglot_5way_online] [--method protonet] [--data-root DIR] [--rounds 5]

Each round is a fresh process that does, in order, what `harness run` does before its second update. The data set is
prepared (decoded and checked) before the first round, as it is for every run but the first. Figures are medians over
the rounds: seconds on the clock, and CPU seconds, which depend less on what else the machine does. `to torch` is the
phase's CPU time over that of importing torch in the same process, which no program that uses torch can do without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.training.state import Progress, Training

GOAL = 4.0
"""Seconds on the clock of a quiet machine that a run on a prepared data set may take to its first update."""

Phases = dict[str, tuple[float, float]]
"""Seconds on the clock and CPU seconds of each phase, in order."""


class FirstUpdateDone(Exception):
    """Ends the training."""


class Stopwatch:
    """Seconds since the last phase ended; the first one is the interpreter's start."""

    def __init__(self, launched: float) -> None:
        self.phases: Phases = {}
        self.wall, self.cpu = launched, 0.0

    def end(self, phase: str) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        self.phases[phase] = (wall - self.wall, cpu - self.cpu)
        self.wall, self.cpu = wall, cpu


def started(args: argparse.Namespace) -> Phases:
    """The phases of this process; what is imported is imported here for the first time."""
    watch = Stopwatch(args.launched)
    watch.end("interpreter")
    import torch

    watch.end("import torch")
    from harness.data.open_dataset import load_dataset
    from harness.method.registry import load_method
    from harness.protocol.load import for_data, load_protocol
    from harness.runs.resolve import Request, prepare
    from harness.runs.run import training_of
    from harness.training.loop import train

    watch.end("import harness")
    loaded = load_protocol(args.protocol)
    method = load_method(args.method)
    protocol = for_data(loaded, args.data)
    watch.end("protocol and method")
    dataset = load_dataset(protocol.dataset, data_root=args.data_root, cache=args.cache, base=loaded.base)
    watch.end("data set")

    def stop(progress: Progress, training: Training, event: str) -> None:
        raise FirstUpdateDone

    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            protocol=args.protocol,
            method=args.method,
            budget=args.budget,
            data=args.data,
            data_root=args.data_root,
            cache=args.cache,
            out=Path(folder),
            device="cpu",
            threads=args.threads,
        )
        torch.set_num_threads(args.threads)
        training = training_of(prepare(request, loaded, method, dataset), lambda _: None)
        watch.end("recipe, weights")
        try:
            train(training, stop)
        except FirstUpdateDone:
            watch.end("first update")
    return watch.phases


def in_new_process(words: list[str]) -> Phases:
    """The phases of a fresh process that is given these words, and when it was launched."""
    command = [sys.executable, __file__, *words, "--launched", repr(time.monotonic())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: Phases = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(rounds: list[Phases]) -> list[tuple[str, float, float]]:
    """Each phase with its median seconds on the clock and CPU seconds, and the median of all of it."""
    rows = [(phase, *(statistics.median(each[phase][n] for each in rounds) for n in (0, 1))) for phase in rounds[0]]
    totals = [statistics.median(sum(phase[n] for phase in each.values()) for each in rounds) for n in (0, 1)]
    return [*rows, ("all of it", totals[0], totals[1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", default="omniglot_5way_online")
    parser.add_argument("--method", default="protonet")
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--data", default="real", choices=["real", "stand-in"])
    parser.add_argument("--data-root", type=Path, help="where the real data are (default: HARNESS_DATA)")
    parser.add_argument("--cache", type=Path, help="where they are prepared (default: that of every run)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--launched", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.launched is not None:
        print(json.dumps(started(args)))
        return

    from episodes import machine
    from tabulate import tabulate

    in_new_process(sys.argv[1:])  # prepares the data set
    rows: list[Any] = medians([in_new_process(sys.argv[1:]) for _ in range(args.rounds)])
    of_torch = {name: cpu for name, _, cpu in rows}["import torch"]
    table = [(name, f"{wall:.2f}", f"{cpu:.2f}", f"{cpu / of_torch:.2f}") for name, wall, cpu in rows]
    print(f"{machine()}; {args.method} on {args.protocol}, {args.threads} thread(s), median of {args.rounds}")
    print(tabulate(table, headers=["phase", "s", "CPU s", "to torch"], tablefmt="github", disable_numparse=True))
    print(f"goal: {GOAL:g} s on a quiet machine")


if __name__ == "__main__":
    main()
