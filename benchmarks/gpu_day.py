"""One call that fills a GPU for a given number of minutes: checks, speed, then trainings by priority.

    python benchmarks/gpu_day.py --out DIR [--minutes 8] [--device cuda] [--data-root DIR] [--jobs 8] [--budget full]
        [--phases checks,tests,speed,train]

1. what machine it is, into `DIR/machine.json`;
2. every method trains for a few updates and is scored, on the device and on the CPU, on generated data at the budget
   `smoke`: what fails, and by how much scores differ, into `DIR/checks.json`;
3. `pytest -m gpu` (which needs the extra `test`), into `DIR/tests.txt`;
4. updates a second of five methods at the budget `full`, beside a plain loop (`benchmarks/training.py`), and what the
   GPU does in an update (`benchmarks/gpu.py`), into `DIR/speed.txt` and `DIR/gpu.txt`;
5. trainings, in order of `TRAININGS`, `--jobs` of them at once, until the time is over. They are then interrupted as by
   Ctrl-C, so that each leaves a checkpoint that `harness run ... --resume` goes on from, on any device.

Run folders are packed into `DIR/runs.tar.gz`. A finished run goes on a board by `harness submit`. Everything can be
tried without a GPU: `--device cpu --minutes 10 --jobs 1 --budget smoke`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SPEED = ("cl_lstm", "norml", "maml", "ntm", "oml")
PROTOCOL_OF_KIND = {
    "online_few_shot": "omniglot_5way_online",
    "n_way_k_shot": "omniglot_5way_online",
    "segmentation_distractors": "fss1000_distractors",
    "supervised": "cifar100_supervised",
}


@dataclass(frozen=True)
class Run:
    """One training: a protocol, a method, a seed, and what is set on the command line besides."""

    protocol: str
    method: str
    seed: int = 0
    extra: tuple[str, ...] = ()


TRAININGS = (
    Run("omniglot_5way_online", "cl_lstm"),
    *(Run("omniglot_20way_1shot", "norml", seed) for seed in range(3)),
    *(Run("omniglot_20way_1shot", "maml", seed) for seed in range(3)),
    Run("omniglot_5way_online", "cl_lstm", extra=("--set", "labels=lstm")),
    Run("omniglot_continual20", "cl_lstm"),
    Run("omniglot_5way_online", "lstm"),
    Run("omniglot_5way_online", "ntm"),
)
"""What no CPU reaches, first. All of it is on Omniglot, the one real data set that is small enough to take anywhere."""


@dataclass
class Day:
    """What was asked for, and when the time is over."""

    out: Path
    device: str
    budget: str
    jobs: int
    data_root: Path | None
    end: float
    environment: dict[str, str] = field(default_factory=lambda: {**os.environ, "PYTHONPATH": str(ROOT)})

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.end - time.monotonic()

    def harness(self, *words: str) -> list[str]:
        """A command of the harness."""
        return [sys.executable, "-m", "harness", *words]


def machine() -> dict[str, Any]:
    """What this machine is, as far as results depend on it."""
    import torch

    found: dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0], "cores": os.cpu_count()}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
    return found


def checked(day: Day) -> dict[str, Any]:
    """Per method its score on the device and on the CPU after a smoke training, or what went wrong."""
    import importlib

    from methods import BUILT_IN

    def score(method: str, protocol: str, device: str) -> dict[str, Any]:
        folder = day.out / "checks" / f"{method}-{device}"
        words = ["run", protocol, "--method", method, "--budget", "smoke", "--data", "stand-in", "--no-board"]
        words += ["--device", device, "--threads", "1", "--run", str(folder), "--test-episodes", "20", "--fresh"]
        start = time.monotonic()
        try:
            done = subprocess.run(
                day.harness(*words), env=day.environment, capture_output=True, text=True, timeout=max(30, day.left)
            )
        except subprocess.TimeoutExpired:
            return {"error": "out of time"}
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-3:]}
        metrics = json.loads((folder / "record.json").read_text(encoding="utf-8"))["metrics"]
        return {"score": next(iter(metrics.values()))["mean"], "seconds": round(time.monotonic() - start, 1)}

    def both(name: str) -> tuple[str, dict[str, Any]]:
        module, _, attribute = BUILT_IN[name][0].partition(":")
        kinds = getattr(importlib.import_module(module), attribute).kinds
        protocol = next(PROTOCOL_OF_KIND[kind] for kind in kinds if kind in PROTOCOL_OF_KIND)
        if "online_few_shot" not in kinds and "n_way_k_shot" in kinds:
            protocol = "omniglot_20way_1shot"
        return name, {"protocol": protocol, **{each: score(name, protocol, each) for each in {day.device, "cpu"}}}

    with ThreadPoolExecutor(day.jobs) as pool:
        return dict(pool.map(both, BUILT_IN))


def output_of(day: Day, words: Sequence[str], part: float) -> str:
    """What a command says, which is given this part of the time that is left."""
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=day.environment,
            capture_output=True,
            text=True,
            timeout=max(30, day.left * part),
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        return f"{said.decode(errors='replace') if isinstance(said, bytes) else said}\nout of time"
    return done.stdout + done.stderr


def tests(day: Day) -> str:
    """The result of the tests that need a GPU."""
    return output_of(day, ["-m", "pytest", "-m", "gpu", "tests/gpu", "--device", day.device, "--durations", "10"], 0.5)


def speed(day: Day, benchmark: str, *words: str) -> str:
    """The table of one of the benchmarks."""
    budget = "smoke" if day.budget == "smoke" else "full"
    path = str(ROOT / "benchmarks" / benchmark)
    return output_of(day, [path, *SPEED, "--device", day.device, "--budget", budget, "--rounds", "2", *words], 1 / 3)


def trained(day: Day, runs: Sequence[Run]) -> None:
    """Trains by priority until the time is over; what is then unfinished is interrupted and leaves its checkpoint."""
    waiting, going = list(runs), []
    while (waiting or going) and day.left > 0:
        while waiting and len(going) < day.jobs:
            run = waiting.pop(0)
            words = ["run", run.protocol, "--method", run.method, "--budget", day.budget, "--seeds", str(run.seed)]
            words += [
                *run.extra,
                "--device",
                day.device,
                "--threads",
                "1",
                "--no-board",
                "--out",
                str(day.out / "runs"),
            ]
            if day.data_root is not None:
                words += ["--data-root", str(day.data_root)]
            label = "-".join((run.protocol, run.method, f"s{run.seed}", *run.extra[1:])).replace("=", "-")
            log = (day.out / f"{label}.txt").open("w", encoding="utf-8")
            going.append(subprocess.Popen(day.harness(*words), env=day.environment, stdout=log, stderr=log))
        going = [each for each in going if each.poll() is None]
        time.sleep(0.5)
    for each in going:
        each.send_signal(signal.SIGINT)
    for each in going:
        try:
            each.wait(60)
        except subprocess.TimeoutExpired:
            each.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", default="full", choices=["smoke", "quick", "day", "full"])
    parser.add_argument("--jobs", type=int, default=8, help="trainings at once, each with one CPU thread")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--phases", default="checks,tests,speed,train", help="which of them, with commas between")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    args.out.mkdir(parents=True, exist_ok=True)
    day = Day(
        args.out.absolute(), args.device, args.budget, args.jobs, args.data_root, time.monotonic() + 60 * args.minutes
    )

    def write(name: str, what: Any) -> None:
        text = what if isinstance(what, str) else json.dumps(what, indent=1)
        (day.out / name).write_text(text, encoding="utf-8")
        print(f"{name}:\n{text}", flush=True)

    phases = args.phases.split(",")
    write("machine.json", machine())
    if "checks" in phases:
        write("checks.json", checked(day))
    if "tests" in phases:
        write("tests.txt", tests(day))
    if "speed" in phases:
        write("speed.txt", speed(day, "training.py"))
        write("gpu.txt", speed(day, "gpu.py", "--times", "1", "4"))
    if "train" in phases:
        trained(day, TRAININGS)
    with tarfile.open(day.out / "runs.tar.gz", "w:gz") as packed:
        for folder in ("runs", "checks"):
            if (day.out / folder).is_dir():
                packed.add(day.out / folder, folder)


if __name__ == "__main__":
    main()
