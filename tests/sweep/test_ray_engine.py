"""The engine `ray` on a real cluster: two nodes as processes of this machine, one with a file system of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.sweep.definition import Resources
from harness.sweep.engine import State, Task
from harness.sweep.places import Places
from harness.sweep.ray_engine import RayJob, named_files, within
from harness.sweep.ray_node import Desk, moved, read_files, write_files
from tests.helpers import sweeps
from tests.helpers.interrupted_sweeps import interrupted

RUNS = {"cl_lstm-smoke-s0", "cl_lstm-smoke-s1"}
NODES = [{"CPU": 4.0, "memory": 8e9}, {"CPU": 2.0, "memory": 4e9, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("resources", "options"),
    [
        (Resources(cores=2), {"num_cpus": 2.0}),
        (Resources(cores=9, memory_gb=99), {"num_cpus": 4.0, "memory": 8e9}),  # a whole node
        (Resources(cores=1, gpus=0.25, memory_gb=2), {"num_cpus": 1.0, "num_gpus": 0.25, "memory": 2e9}),
        (Resources(cores=1, gpus=1.5), {"num_cpus": 1.0, "num_gpus": 1.0}),
    ],
)
def test_a_run_asks_ray_for_what_it_takes_and_for_no_more_than_a_node_has(
    resources: Resources, options: dict[str, float]
) -> None:
    assert within(resources, NODES) == options


def test_without_a_gpu_in_the_cluster_runs_are_on_the_cpu() -> None:
    assert within(Resources(cores=1, gpus=1), NODES[:1]) == {"num_cpus": 1.0}


def test_files_that_a_run_names_travel_with_what_lies_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own").mkdir()
    for name in ("own/late.yaml", "own/base.yml", "own/mine.py", "own/weights.bin", "recipe.yaml", "other.yaml"):
        Path(name).write_text(name)
    outside = tmp_path / "recipe.yaml"
    words = ("run", "own/late.yaml", "--method", "own/mine.py:Mine", "--recipe", str(outside))
    task = Task(words, Places((Path("a"), Path("b"))), tmp_path / "run", tmp_path / "log", Resources())
    assert named_files(task, tmp_path) == {
        name: name.encode() for name in ("own/late.yaml", "own/base.yml", "own/mine.py")
    }


def test_a_run_folder_is_the_same_after_it_has_travelled(tmp_path: Path) -> None:
    files = {"run.json": b"{}", "checkpoint.safetensors": b"\0\1", "log.jsonl": b""}
    write_files(tmp_path / "a" / "run", files)
    (tmp_path / "a" / "run" / ".checkpoint.tmp").write_bytes(b"half")
    assert read_files(tmp_path / "a" / "run") == files
    assert read_files(tmp_path / "nowhere") == {}


def test_what_comes_back_is_written_beside_the_driver_also_before_anything_was(tmp_path: Path) -> None:
    desk, folder, log = Desk(), tmp_path / "runs" / "p" / "run-0", tmp_path / "logs" / "run-0.txt"
    for said in (b"one\n", b"two\n"):
        desk.take(folder, {"run.json": said}, log, said)
    assert log.read_bytes() == b"one\ntwo\n"
    assert desk.files_of(folder) == {"run.json": b"two\n"}


@pytest.mark.parametrize(
    ("out", "there"), [(None, "runs"), (Path("own"), "own"), (Path("/data/runs"), "runs"), (Path("../up"), "runs")]
)
def test_a_node_with_files_of_its_own_works_in_its_own_folder(tmp_path: Path, out: Path | None, there: str) -> None:
    places = Places((Path("a"), Path("b")), out, Path("/data/sets"), Path("cache"), Path("boards"))
    task = Task(("run", "p"), places, Path("/driver/runs/p/run-0"), Path("/driver/log.txt"), Resources())
    own = moved(task, tmp_path)
    assert (own.folder, own.log) == (tmp_path / there / "p" / "run-0", tmp_path / "log.txt")
    words = ["--out", there] if there == "own" else []
    assert own.places.words == [*words, "--data-root", "/data/sets"]


class NodeDied(Exception):
    pass


class WorkerCrashed(Exception):
    pass


class Remote:
    """What a call of the desk gives."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def remote(self, *_: Any) -> Any:
        return self.value


@pytest.mark.parametrize(
    ("error", "begun", "states"),
    [
        (NodeDied("its node is dead"), set(), ["queued", 0]),  # was in the queue of the node
        (NodeDied("its node is dead"), {7}, [-9, -9]),
        (WorkerCrashed("it died unexpectedly"), set(), [-9, -9]),  # would do so for ever
    ],
)
def test_a_run_that_is_lost_before_it_began_was_not_tried(
    error: Exception, begun: set[int], states: list[State], tmp_path: Path
) -> None:
    class OtherError(Exception):
        pass

    others = dict.fromkeys(("TaskCancelledError", "ObjectLostError", "OutOfMemoryError", "RayError"), OtherError)
    errors = SimpleNamespace(NodeDiedError=NodeDied, WorkerCrashedError=WorkerCrashed, **others)

    def get(reference: Any) -> Any:
        if isinstance(reference, Exception):
            raise reference
        return reference

    ray = SimpleNamespace(wait=lambda references, timeout: (references, []), get=get, exceptions=errors)
    desk = SimpleNamespace(all_begun=Remote(begun))
    job = RayJob(ray, desk, 7, lambda: 0, error, tmp_path / "log.txt", 1)
    assert [job.poll(), job.poll()] == states


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """A cluster whose head node runs nothing; tests add nodes."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra ray)")
    from ray.cluster_utils import Cluster

    variables = {
        "RAY_worker_niceness": "0",
        "RAY_health_check_period_ms": "500",  # that a node is dead is known after five of these
        "PYTHONPATH": sweeps.environment()["PYTHONPATH"],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield cluster
        cluster.shutdown()


def at_work(place: Path, runs: Set[str]) -> tuple[str, int] | None:
    """One of these runs that is trained, with its process."""
    return next(((run, process) for run in sorted(runs) if (process := sweeps.process_of(place, run))), None)


@contextmanager
def node_of(head: Any, cores: int) -> Iterator[Any]:
    """A node of a cluster, for as long as a test needs it."""
    node = head.add_node(num_cpus=cores)
    try:
        yield node
    finally:
        head.remove_node(node)


@pytest.mark.slow
@pytest.mark.ray
def test_killed_workers_nodes_and_drivers_cost_second_tries_and_no_number(
    head: Any, tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path, sweeps.TWO)
    words = ["--engine", "ray", "--address", head.address]
    with node_of(head, 1) as node, ExitStack() as later:
        sweep = sweeps.started(place, sweep_cache, *words)
        first, process = sweeps.until(lambda: at_work(place, RUNS))  # Ray begins them in any order
        sweeps.kill(sweeps.parent_of(process))
        (second,) = RUNS - {first}
        _, process = sweeps.until(lambda: at_work(place, {second}))
        assert sweeps.process_of(place, first) is None  # a node of one core does one run at a time
        worker = sweeps.parent_of(process)
        sweeps.kill(node.all_processes["raylet"][0].process.pid)
        sweeps.kill(worker)
        later.enter_context(node_of(head, 2))
        sweeps.until(lambda: sweeps.tries(place, second) == 2)
        sweeps.until(lambda: at_work(place, RUNS))
        sweeps.kill(sweep.pid)
        said, _ = sweep.communicate()
        sweeps.swept(place, sweep_cache, *words)
    assert said.count("failed (killed by signal 9)") == 2, said
    assert sweeps.same(place, local_sweep()) == 2


@pytest.mark.slow
@pytest.mark.ray
def test_run_folders_come_back_from_a_node_that_does_not_share_them(
    head: Any, tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("a node with a file system of its own needs root and unshare")
    place = sweeps.written(tmp_path, sweeps.ONE)
    sweep = sweeps.started(place, sweep_cache, "--engine", "ray", "--address", head.address)
    sweeps.until((place / "runs/sweeps/grid/.shared").is_file)  # the driver has joined, by the head node
    # What the driver works in is an empty folder for this node.
    join = f"mount -t tmpfs none {place} && exec {sys.executable} -m ray.scripts.scripts start --block --num-cpus 2"
    node = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{join} --address {head.address}"],
        env=sweeps.environment(RAY_worker_niceness="0"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        said, _ = sweep.communicate(timeout=900)
    finally:
        node.terminate()
        node.wait(timeout=60)
    assert sweep.returncode == 0, said
    sweeps.same(place, local_sweep())


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_that_is_interrupted_at_random_comes_to_the_same(
    head: Any, tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path, sweeps.ONE)
    words = sweeps.command(sweep_cache, "--engine", "ray", "--address", head.address)
    with node_of(head, 1):
        assert interrupted(words, place, times=2, every=3, seed=1)
    assert sweeps.same(place, local_sweep()) == 1


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_a_sweep_that_is_stopped_while_its_cluster_starts_ends_as_any_other(
    number: signal.Signals, seconds: float, tmp_path: Path, sweep_cache: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the extra ray)")
    place = sweeps.written(tmp_path, sweeps.ONE)
    sweep = sweeps.started(place, sweep_cache, "--engine", "ray")
    assert sweep.stdout is not None
    while "logs in" not in sweep.stdout.readline():
        assert sweep.poll() is None
    time.sleep(seconds)
    sweep.send_signal(number)
    said, _ = sweep.communicate()
    assert sweep.returncode == 130, said
    assert said == "harness: stopped\n"
