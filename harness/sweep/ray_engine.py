"""Runs of a sweep as tasks of Ray: on a cluster that is there, or on one of this machine, started for the sweep."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.records.provenance import cores
from harness.sweep.definition import Resources
from harness.sweep.engine import STOPPED, Job, State, Task, say
from harness.sweep.ray_node import Desk, Order, Shared, run_on_node
from harness.util.errors import UserError
from harness.util.option_names import option
from harness.util.signals import sigterm_kept

_REACHED_WITHIN = 10.0
_WORKER_LOST = -9
_SHARED = ".shared"


def start_ray(address: str | None, jobs: int | None, folder: Path) -> RayEngine:
    """Joins the cluster at `address` ("auto": the one of this machine), or starts one here that ends with the sweep.

    `jobs` limits the cores in use, `folder` is that of the sweep. Raises UserError if Ray is not installed, no cluster
    answers, or it runs other versions of Python or Ray.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            f"{option('engine', 'ray')} needs Ray: install the extra with `pip install 'episode-harness[ray]'`, here "
            "and on all nodes"
        ) from None
    if address is not None and "://" in address:
        raise UserError(
            f"{option('address')} is '{address}'; give HOST:PORT of the cluster's head node, or 'auto' on one of its "
            "nodes (a sweep is driven from a node of the cluster, not through Ray Client)"
        )
    if address is not None:
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # runs without a GPU are given --device cpu
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a cluster that is started here; Ray's own is 15
    own: dict[str, Any] = {"num_cpus": jobs or cores(), "include_dashboard": False} if address is None else {}
    try:
        with sigterm_kept():
            ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    except Exception as error:  # Ray raises a bare one where a node takes too long to start
        said = str(error).strip().splitlines()
        where = f"at '{address}'" if address else "on this machine"
        raise UserError(f"no Ray cluster {where}: {said[0] if said else type(error).__name__}") from None
    folder.mkdir(parents=True, exist_ok=True)
    shared = Shared((folder / _SHARED).absolute(), uuid.uuid4().hex)
    shared.path.write_text(shared.content, encoding="utf-8")
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    desk = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()
    return RayEngine(ray, desk, shared, None if address is None else jobs)


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes. Raises UserError if nothing listens at HOST:PORT."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit():
        raise UserError(f"{option('address')} is '{address}'; give HOST:PORT of the cluster's head node, or 'auto'")
    try:
        socket.create_connection((host, int(port)), timeout=_REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster at '{address}': {error}") from None


@dataclass
class RayEngine:
    """Ray queues what there is no room for, so that all tasks are handed to it at once."""

    ray: Any
    desk: Any
    shared: Shared
    jobs: int | None = None
    active: list[RayJob] = field(default_factory=list)
    number: int = 0

    def submit(self, tasks: Sequence[Task]) -> list[Job]:
        self.active = [each for each in self.active if each.code is None]
        submitted: list[Job] = []
        for task in tasks:
            taken = sum(each.cores for each in self.active)
            if self.jobs is not None and taken and taken + task.resources.cores > self.jobs:
                break
            submitted.append(self._submit(task))
        return submitted

    def close(self) -> None:
        self.shared.path.unlink(missing_ok=True)
        self.ray.shutdown()

    def _submit(self, task: Task) -> RayJob:
        self.number += 1
        begin = functools.partial(self._begin, task, self.number)
        job = RayJob(self.ray, self.desk, self.number, begin, begin(), task.log, task.resources.cores)
        self.active.append(job)
        return job

    def _begin(self, task: Task, number: int) -> Any:
        """Hands a task to Ray; what its exit code will be found by."""
        wanted = within(task.resources, [node["Resources"] for node in self.ray.nodes() if node["Alive"]])
        place = Path.cwd()
        absolute = dataclasses.replace(task, folder=task.folder.absolute(), log=task.log.absolute())
        order = Order(number, absolute, place, "num_gpus" in wanted, self.shared, named_files(task, place))
        remote = self.ray.remote(run_on_node)
        # What fails is tried once more by whoever drives the sweep, from its checkpoint.
        return remote.options(max_retries=0, name=task.folder.name, **wanted).remote(order, self.desk)


@dataclass
class RayJob:
    """A task of Ray; `begin` hands it to Ray again."""

    ray: Any
    desk: Any
    number: int
    begin: Callable[[], Any]
    reference: Any
    log: Path
    cores: int
    code: int | None = None

    def poll(self) -> State:
        if self.code is None and self.ray.wait([self.reference], timeout=0)[0]:
            self.code = self._code()
        if self.code is not None:
            return self.code
        return "running" if self._has_begun() else "queued"

    def stop(self) -> None:
        self.ray.get(self.desk.stop.remote(self.number))
        if self.poll() == "queued":
            self.ray.cancel(self.reference)

    def kill(self) -> None:
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.cancel(self.reference, force=True)

    def _has_begun(self) -> bool:
        return self.number in self.ray.get(self.desk.all_begun.remote())

    def _code(self) -> int | None:
        """The exit code; None for a task that was lost before it began, which is no try: it is handed to Ray again."""
        errors = self.ray.exceptions
        try:
            return int(self.ray.get(self.reference))
        except errors.TaskCancelledError:
            return STOPPED
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        ) as lost:
            if isinstance(lost, errors.NodeDiedError) and not self._has_begun():
                self.reference = self.begin()
                return None
            return self._failed(_WORKER_LOST, lost)
        except errors.RayError as error:
            return self._failed(1, error)

    def _failed(self, code: int, error: Exception) -> int:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        say(self.log, "Ray", lines[0] if code == _WORKER_LOST else lines[-1])
        return code


def within(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The options of a Ray task for what a run takes; what no node has is cut to what the largest has, as on one
    machine a run that wants more than there is begins alone. Where no node has a GPU, runs are on the CPU."""

    def most(name: str) -> float:
        return max((node.get(name, 0.0) for node in nodes), default=0.0)

    options = {"num_cpus": min(float(resources.cores), most("CPU") or 1.0)}
    if resources.gpus and most("GPU"):
        share = resources.gpus if resources.gpus < 1 else float(int(resources.gpus))  # Ray has no one and a half
        options["num_gpus"] = min(share, most("GPU"))
    if resources.memory_gb:
        options["memory"] = min(resources.memory_gb * 1e9, most("memory") or resources.memory_gb * 1e9)
    return options


def named_files(task: Task, place: Path) -> dict[str, bytes]:
    """Files that the words of a run name by relative paths, and the YAML and Python files beside them (which they may
    extend or import), by their paths relative to `place`; files outside of it are expected on the nodes."""
    found: dict[str, bytes] = {}
    for word in task.words:
        path = Path(word.rpartition(":")[0] or word)
        if path.is_absolute() or path.suffix not in {".yaml", ".yml", ".py"} or not path.is_file():
            continue
        beside = (each for kind in ("*.yaml", "*.yml", "*.py") for each in path.parent.glob(kind))
        for each in {path, *beside}:
            if (place / each).resolve().is_relative_to(place.resolve()):
                found[str(each)] = each.read_bytes()
    return found
