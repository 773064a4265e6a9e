"""One call that fills a GPU for a given number of minutes: a first look, speed, then tests and trainings by priority.

    python benchmarks/gpu_day.py --out DIR [--minutes 8] [--device cuda] [--data-root DIR] [--jobs 16] [--budget day]
        [--phases smoke,speed,train,tests,checks] [--only PATTERN] [--precision tf32] [--before DIR] [--runs DIR]

1. what machine it is, into `DIR/machine.json`;
2. `smoke`: a few methods are trained and scored on generated data; where none can be, all of it ends there, so that no
   more of the GPU's time is spent;
3. `speed`: updates of some methods at the budget `full`, replayed and computed, into `DIR/gpu.txt` and
   `DIR/gpu_computed.txt`, and beside those of another checkout (`--before DIR`), into `DIR/speed.txt`;
4. `train`: trainings, in the order of `gpu_trainings.py`, `--jobs` of them at once, until the time is over. They are
   then interrupted, so that each leaves a checkpoint that `harness run ... --resume` goes on from, on any device. They
   share the GPU by NVIDIA's multi-process service where there is one, and otherwise by turns;
5. meanwhile `tests`: `pytest -m gpu` (which needs the extra `test`), into `DIR/tests.txt`, and `checks`: every method
   trains for a few updates and is scored, on the device and on the CPU, on generated data at the budget `smoke`: what
   fails, and by how much scores differ, into `DIR/checks.json`.

Run folders are packed into `DIR/runs.tar.gz.00` and so on, 15 MB each (`cat DIR/runs.tar.gz.* | tar xz`); where the
package zstandard is there, into `DIR/runs.tar.zst.00` (`| zstd -d --long=30 | tar x`), which holds features that runs
share only once. `--runs DIR` names such folders of before, with which it goes on. A finished run goes on a board by
`harness submit`, or by the command that began it; runs whose weights are too large to bring back go on the boards in
`DIR/boards` at once, which are packed too: their rows and scores are for the boards at home. Everything can be tried
without a GPU: `--device cpu --minutes 10 --jobs 1 --budget smoke --precision fp32`.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import gzip
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gpu_trainings import TRAININGS, Run

ROOT = Path(__file__).resolve().parents[1]
SPEED = ("cl_lstm", "norml", "maml", "ntm", "oml", "bauer")
PART = 15_000_000
"""Bytes of a part of what is packed."""

PROTOCOL_OF_KIND = {
    "online_few_shot": "omniglot_5way_online",
    "n_way_k_shot": "omniglot_5way_online",
    "segmentation_distractors": "fss1000_distractors",
    "supervised": "cifar100_supervised",
}


@dataclass
class Day:
    """What was asked for, and when the time is over."""

    out: Path
    device: str
    budget: str
    precision: str
    jobs: int
    data_root: Path | None
    before: Path | None
    end: float
    environment: dict[str, str] = field(default_factory=lambda: {**os.environ, "PYTHONPATH": _path()})

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.end - time.monotonic()

    def harness(self, *words: str) -> list[str]:
        """A command of the harness."""
        return [sys.executable, "-m", "harness", *words]


def _path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


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


def looked_at(day: Day) -> dict[str, str]:
    """What a smoke training of a few methods came to: 'ok', or what went wrong."""

    def run(method: str, protocol: str) -> str:
        words = ["--debug", "run", protocol, "--method", method, "--budget", "smoke", "--data", "stand-in"]
        words += ["--device", day.device, "--threads", "1", "--no-board", "--no-check", "--test-episodes", "20"]
        words += ["--run", str(day.out / "smoke" / method), "--precision", day.precision, "--fresh"]
        try:
            done = subprocess.run(day.harness(*words), env=day.environment, capture_output=True, text=True, timeout=90)
        except subprocess.TimeoutExpired:
            return "out of time"
        return "ok" if done.returncode == 0 else done.stderr[-3000:]

    cases = {"maml": "omniglot_20way_1shot", "bauer": "miniimagenet_5way_1shot", "cl_lstm": "omniglot_5way_online"}
    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(run, cases, cases.values()), strict=True))


def output_of(day: Day, words: Sequence[str], most: float) -> str:
    """What a command says, which is given so many seconds of the time that is left."""
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=day.environment,
            capture_output=True,
            text=True,
            timeout=max(10, min(most, day.left)),
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        return f"{said.decode(errors='replace') if isinstance(said, bytes) else said}\nout of time"
    return done.stdout + done.stderr


def tests(day: Day) -> str:
    """The result of the tests that need a GPU, in several processes where pytest can."""
    words = ["-m", "pytest", "-m", "gpu", "tests/gpu", "--device", day.device, "--durations", "10", "--tb", "short"]
    if _is_there("xdist"):
        words += ["-n", str(max(1, (os.cpu_count() or 1) // 2))]
    return output_of(day, words, day.left - 15)


def speed(day: Day) -> dict[str, str]:
    """Tables of what the GPU does, and of updates beside those of another checkout."""
    budget = "smoke" if day.budget == "smoke" else "full"
    how = ["--device", day.device, "--budget", budget, "--precision", day.precision, "--rounds", "3", "--times", "1"]
    found = {"gpu.txt": output_of(day, ["benchmarks/gpu.py", *SPEED, *how], 60)}
    found["gpu_computed.txt"] = output_of(day, ["benchmarks/gpu.py", *SPEED[:2], *how, "--computed"], 40)
    if day.before is not None:
        words = [
            "benchmarks/training.py",
            "cl_lstm",
            "norml",
            "--device",
            day.device,
            "--budget",
            budget,
            "--rounds",
            "3",
        ]
        found["speed.txt"] = output_of(day, [*words, "--batch", "16", "--against", str(day.before)], 60)
    return found


@contextlib.contextmanager
def shared_gpu(day: Day) -> Iterator[bool]:
    """Within, programs that day.environment is given to compute on the GPU at the same time, where NVIDIA's
    multi-process service can be had; whether it can. Without it they take turns."""
    control = shutil.which("nvidia-cuda-mps-control")
    if day.device == "cpu" or control is None:
        yield False
        return
    before = dict(day.environment)
    with tempfile.TemporaryDirectory() as folder:
        day.environment |= {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        started = subprocess.run([control, "-d"], env=day.environment, capture_output=True, timeout=30).returncode == 0
        try:
            add = "import torch; print(int((torch.ones(2, device='cuda') + 1).sum()))"
            works = started and output_of(day, ["-c", add], 45).strip().endswith("4")
            if not works:
                day.environment = before
            yield works
        finally:
            if started:
                quitting = {**before, "CUDA_MPS_PIPE_DIRECTORY": folder}
                with contextlib.suppress(subprocess.TimeoutExpired):
                    subprocess.run([control], env=quitting, input="quit\n", text=True, capture_output=True, timeout=20)


def trained(day: Day, runs: Sequence[Run], until: float) -> None:
    """Trains by priority until so many seconds are left; what is then unfinished is interrupted and leaves its
    checkpoint."""
    waiting = list(runs)
    going: list[subprocess.Popen[bytes]] = []

    def folder_of(label: str) -> Path:
        return day.out / "runs" / label

    def can_begin(run: Run) -> bool:
        return run.after is None or (folder_of(run.after) / "record.json").is_file()

    while (going or any(map(can_begin, waiting))) and day.left > until:
        while len(going) < day.jobs and (run := next(filter(can_begin, waiting), None)):
            waiting.remove(run)
            budget = day.budget if day.budget == "smoke" else run.budget or day.budget
            words = ["run", run.protocol, "--method", run.method, "--budget", budget, "--seeds", str(run.seed)]
            words += [*run.extra, "--device", day.device, "--precision", day.precision, "--threads", "1"]
            words += ["--boards", str(day.out / "boards")] if run.heavy else ["--no-board"]
            words += [] if run.after is None else ["--init", str(folder_of(run.after))]
            folder = folder_of(run.label)
            words += ["--run", str(folder), *(["--resume"] if folder.is_dir() else [])]
            if day.data_root is not None:
                words += ["--data-root", str(day.data_root)]
            with (day.out / f"{run.label}.log").open("w", encoding="utf-8") as log:
                going.append(subprocess.Popen(day.harness(*words), env=day.environment, stdout=log, stderr=log))
        going = [each for each in going if each.poll() is None]
        time.sleep(0.5)
    for each in going:
        each.send_signal(signal.SIGTERM)  # a shell's background jobs ignore SIGINT
    for each in going:
        try:
            each.wait(60)
        except subprocess.TimeoutExpired:
            each.kill()


@contextlib.contextmanager
def _zipped(path: Path) -> Iterator[IO[bytes]]:
    """A file that what is written to is packed into, as its name says."""
    if path.suffix == ".gz":
        with gzip.open(path, "wb", compresslevel=1) as file:
            yield file
        return
    import zstandard

    # Far repetitions too: features that runs share.
    settings = zstandard.ZstdCompressionParameters.from_level(1, window_log=30, enable_ldm=True, threads=8)
    with path.open("wb") as raw, zstandard.ZstdCompressor(compression_params=settings).stream_writer(raw) as file:
        yield file


def packed(day: Day) -> None:
    """Packs run folders, logs and boards, what is small first: of finished runs no checkpoints, which nothing goes on
    from, and of heavy ones no weights."""
    heavy = {run.label for run in TRAININGS if run.heavy}

    def stays(path: Path) -> bool:
        done = (path.parent / "record.json").is_file()
        weights = path.name.startswith("weights") and path.parent.name in heavy
        return path.suffix == ".lock" or (done and (weights or path.name.startswith("checkpoint")))

    zipped = "zst" if _is_there("zstandard") else "gz"
    whole = day.out / f"runs.tar.{zipped}"
    with _zipped(whole) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        boards = [path for path in (day.out / "boards").rglob("*") if path.parent.name != "checkpoints"]
        found = [path for path in [*day.out.glob("*.log"), *boards, *(day.out / "runs").rglob("*")] if path.is_file()]
        for path in sorted((path for path in found if not stays(path)), key=lambda path: path.stat().st_size):
            archive.add(path, str(path.relative_to(day.out)))
    with whole.open("rb") as file:
        for number in itertools.count():
            part = file.read(PART)
            if not part:
                break
            (day.out / f"{whole.name}.{number:02d}").write_bytes(part)
    whole.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", default="day", choices=["smoke", "quick", "day", "full"])
    parser.add_argument("--precision", default="tf32", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--jobs", type=int, default=16, help="trainings at once, each with one CPU thread")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--before", type=Path, help="another checkout, whose updates are timed beside these")
    parser.add_argument("--runs", type=Path, help="run folders to go on with")
    parser.add_argument("--only", default="*", help="trainings whose label fits this pattern")
    parser.add_argument("--phases", default="smoke,speed,train,tests", help="which of them, with commas between")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    args.out.mkdir(parents=True, exist_ok=True)
    out, end = args.out.absolute(), time.monotonic() + 60 * args.minutes
    root, before = args.data_root, args.before
    day = Day(out, args.device, args.budget, args.precision, args.jobs, root, before, end)

    def write(name: str, what: Any) -> None:
        text = what if isinstance(what, str) else json.dumps(what, indent=1)
        (day.out / name).write_text(text, encoding="utf-8")
        print(f"{name} ({day.left:.0f} s left):\n{text}", flush=True)

    phases = args.phases.split(",")
    write("machine.json", machine())
    if "smoke" in phases:
        found = looked_at(day)
        write("smoke.json", "\n".join(f"{name}: {said}" for name, said in found.items()))
        if "ok" not in found.values():
            raise SystemExit("nothing can be trained here")
    if "speed" in phases:
        for name, said in speed(day).items():
            write(name, said)
    if args.runs is not None:
        shutil.copytree(args.runs, out / "runs", dirs_exist_ok=True)
    runs = [each for each in TRAININGS if fnmatch.fnmatch(each.label, args.only)] if "train" in phases else []
    with ThreadPoolExecutor(3) as pool, shared_gpu(day) as shared:
        print(f"programs share the GPU: {shared}", flush=True)
        waiting = [pool.submit(trained, day, runs, 20)]
        if "tests" in phases:
            waiting.append(pool.submit(lambda: write("tests.txt", tests(day))))
        if "checks" in phases:
            waiting.append(pool.submit(lambda: write("checks.json", checked(day))))
        for each in waiting:
            each.result()
    packed(day)


if __name__ == "__main__":
    main()
