"""What a GPU does in one update of training: launches, time in kernels, and how throughput grows with the batch.

    python benchmarks/gpu.py [CASE ...] [--times 1 4 16] [--budget full] [--device cuda] [--rounds 5] [--computed]
        [--precision tf32]

An update is the whole of it, as `harness run` makes it: plan, gather, loss, gradient, clipping, optimiser; in the last
stage of the recipe, on random pixels, at its batch and at multiples of it. The columns:

- kernels: of an update. One that is replayed (`harness/training/replay.py`) launches them together, others one by one;
  `--computed` has none replayed (on a CPU: operations that compute something, most of which are one kernel each);
- us: microseconds of a kernel; busy: the part of an update in which kernels run, the rest is waiting for the host;
- copies: between host and device an update;
- limit: the rate of floating-point operations over that of a large matrix product, which is measured in the same run.

`--device cpu` tries it without a GPU, where us, busy and copies are left open.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from episodes import machine
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from training import CASES, random_images

from harness.episodes.source import EpisodeSource
from harness.evaluation.operations import Operations
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import load_protocol
from harness.training.recipe_file import load_budget, recipe_path
from harness.training.stages import begin_stage
from harness.training.state import Progress, Training
from harness.util.allocator import keep_freed_memory
from harness.util.arithmetic import arithmetic
from harness.util.precision import PRECISIONS, Precision
from harness.util.shipped_files import protocol_files

DEFAULT = ("cl_lstm", "norml", "maml", "oml", "opn")
WARM = 3
"""Updates before the first that counts: kernels are compiled and chosen in these, and the update is recorded."""

Update = Callable[[], object]


@dataclass(frozen=True)
class Launches:
    """Kernels of an update; microseconds in them and copies between host and device where there is a GPU."""

    kernels: int
    microseconds: float | None = None
    copies: int | None = None


class Computing(TorchDispatchMode):
    """Counts operations that compute something: no views, no empty memory."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        returned = func._schema.returns
        is_view = any(each.alias_info and not each.alias_info.is_write for each in returned)
        self.total += not is_view and "empty" not in func._schema.name and func.namespace == "aten"
        return func(*args, **kwargs or {})


def update_of(
    name: str,
    budget: str,
    times: int,
    device: torch.device,
    folder: Path,
    replayed: bool = True,
    precision: Precision = "fp32",
) -> tuple[int, Update]:
    """Episodes of an update of a case's last stage, at so many times the batch of its recipe; and the update."""
    method_name, protocol_name, options = CASES[name]
    loaded, found = load_protocol(protocol_files()[protocol_name]), load_method(method_name)
    card = loaded.protocol.card
    plan = load_budget(recipe_path(method_name, found.own_file), loaded, budget)
    batch = (plan.stages[-1].batch or plan.batch) * times
    last = plan.stages[-1].model_copy(update={"batch": batch, "episodes": 10**9})
    plan = plan.model_copy(update={"stages": [last], "validation": None, "precision": precision})
    task = task_for(found.cls, loaded.protocol, card.image_shape, card.classes["train"])
    method = build_method(found.cls, task, plan.options | options, 0, device).train()
    source = EpisodeSource(random_images(card), device)
    running = begin_stage(Training(method, source, loaded.protocol, plan, 0, folder / "checkpoint", {}), 0)
    if not replayed:
        running.__dict__["replays"] = None
    progress = Progress()
    return batch, lambda: running.advance(progress)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Update, device: torch.device, rounds: int) -> float:
    """The median of single calls."""
    found = []
    for _ in range(rounds):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def launches(update: Update, device: torch.device) -> Launches:
    """What one update launches."""
    if device.type != "cuda":
        with Computing() as counter:
            update()
        return Launches(counter.total)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        update()
        wait(device)
    events = [each for each in profiled.events() if each.device_type == torch.autograd.DeviceType.CUDA]
    copies = [each for each in events if each.name.startswith(("Memcpy HtoD", "Memcpy DtoH"))]
    kernels = [each for each in events if not each.name.startswith(("Memcpy", "Memset"))]
    return Launches(len(kernels), sum(each.device_time for each in kernels), len(copies))


def flop_of(update: Update) -> int:
    """Floating-point operations of an update, two for a multiply and add."""
    with Operations() as counter:
        update()
    return counter.total


def limit(device: torch.device, size: int) -> float:
    """Floating-point operations a second of a matrix product of this size, in the arithmetic of the moment."""
    a = torch.randn(size, size, device=device)
    for _ in range(WARM):
        a @ a
    return 2 * size**3 / seconds(lambda: a @ a, device, 5)


def row(name: str, times: int, device: torch.device, most: float, args: argparse.Namespace) -> list[str]:
    """A line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        batch, update = update_of(name, args.budget, times, device, Path(folder), not args.computed, args.precision)
        flop = flop_of(update)  # of the first, which is computed: what is replayed shows no operations
        for _ in range(WARM if device.type == "cuda" else 0):
            update()
        spent = seconds(update, device, args.rounds)
        found = launches(update, device)
    us, busy, copies = "", "", ""
    if found.microseconds is not None:
        us, busy = f"{found.microseconds / found.kernels:.1f}", f"{found.microseconds / 1e6 / spent:.0%}"
        copies = str(found.copies)
    share = f"{flop / spent / most:.1%}"
    return [name, str(batch), f"{1e3 * spent:.1f}", f"{batch / spent:.3g}", str(found.kernels), us, busy, copies, share]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", choices=[[], *CASES], help=f"default: {' '.join(DEFAULT)}")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4, 16], help="multiples of the recipe's batch")
    parser.add_argument("--budget", default="full", choices=["smoke", "quick", "full"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--computed", action="store_true", help="updates one operation after another, not replayed")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of the updates")
    parser.add_argument("--size", type=int, default=4096, help="of the matrix product that is the limit")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here (torch.cuda.is_available() is False); --device cpu measures what needs none")
    if device.type == "cpu":
        torch.set_num_threads(1)
    keep_freed_memory()  # as every run does

    with arithmetic(args.precision, device):
        most = limit(device, args.size)
    product = f"a matrix product in {'tf32' if args.precision == 'tf32' else 'fp32'}"
    gpu = f"{torch.cuda.get_device_name(device)} beside " if device.type == "cuda" else ""
    print(f"{gpu}{machine()}; limit {most / 1e12:.3g} TFLOP/s ({product}, {args.size}x{args.size})", flush=True)
    rows = [row(name, n, device, most, args) for name in args.case or DEFAULT for n in args.times]
    heads = ["case", "batch", "ms", "episodes/s", "kernels", "us", "busy", "copies", "limit"]
    print(tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
