"""What Ray runs: the task of a run, on a node, and the desk beside the driver that all tasks report to.

Where a node shares the file system with the driver, a run works in its own folder there. Where it does not, it works in
a temporary one: what the folder holds comes through the object store, and goes back whenever a checkpoint was saved.
"""

from __future__ import annotations

import dataclasses
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.runs.status import CHECKPOINT, NOTED
from harness.sweep.engine import STOPPED, Task
from harness.sweep.on_node import run_here
from harness.util.atomic_files import replacing

_HEED = 1.0
_SEND = 10.0
"""Seconds between two looks at whether the sweep is being stopped, and between two snapshots of a run folder."""


@dataclass(frozen=True)
class Shared:
    """A file of the driver, by which a node finds out whether it sees the same file system."""

    path: Path
    content: str

    def is_here(self) -> bool:
        try:
            return self.path.read_text(encoding="utf-8") == self.content
        except (OSError, ValueError):
            return False


@dataclass(frozen=True)
class Order:
    """A task for a node; its folder and log are absolute paths of the driver, as is `place`, its working directory."""

    number: int
    task: Task
    place: Path
    gpu: bool
    shared: Shared
    files: Mapping[str, bytes]
    """Files that the words name relative to the working directory, for nodes that do not have it."""


class Desk:
    """Lives on the driver's node: knows what has begun and what shall stop, and reads and writes run folders there."""

    def __init__(self) -> None:
        self.begun: set[int] = set()
        self.stopping: set[int] = set()

    def begin(self, number: int) -> None:
        self.begun.add(number)

    def all_begun(self) -> set[int]:
        return self.begun

    def stop(self, number: int) -> None:
        self.stopping.add(number)

    def shall_stop(self, number: int) -> bool:
        return number in self.stopping

    def files_of(self, folder: Path) -> dict[str, bytes]:
        return read_files(folder)

    def take(self, folder: Path, files: Mapping[str, bytes], log: Path, said: bytes) -> None:
        """Writes what a node has made into the run folder, and what its run printed to the end of the log."""
        write_files(folder, files)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(said)


def run_on_node(order: Order, desk: Any) -> int:
    """The task of Ray: does a run, and returns its exit code."""
    import ray

    # While the main thread of a task waits for an answer, Ray lends its cores to another task, and two would run.
    with ThreadPoolExecutor(1) as asking:
        return _run(order, desk, lambda reference: asking.submit(ray.get, reference).result())


def _run(order: Order, desk: Any, get: Callable[[Any], Any]) -> int:
    get(desk.begin.remote(order.number))
    heeded, stopping = 0.0, False

    def stop_signal() -> int | None:
        nonlocal heeded, stopping
        if time.monotonic() - heeded >= _HEED:
            heeded, stopping = time.monotonic(), get(desk.shall_stop.remote(order.number))
        return signal.SIGINT if stopping else None

    try:
        if stop_signal() is not None:
            return STOPPED
        if order.shared.is_here():
            return run_here(order.task, order.gpu, order.place, stop_signal)
        with tempfile.TemporaryDirectory(prefix="harness-") as place:
            return _run_apart(order, desk, Path(place), stop_signal, get)
    except KeyboardInterrupt:  # cancelled just as it began
        return STOPPED


def _run_apart(order: Order, desk: Any, place: Path, stop_signal: Any, get: Callable[[Any], Any]) -> int:
    """Does a run in a folder of the node's own, and sends back what it makes."""
    there = order.task.folder
    task = moved(order.task, place)
    write_files(place, order.files)
    write_files(task.folder, get(desk.files_of.remote(there)))
    task.log.touch()
    sent_bytes, sent_at, saved_at = 0, time.monotonic(), _saved_at(task.folder)

    def send() -> None:
        nonlocal sent_bytes, sent_at, saved_at
        sent_at, saved_at = time.monotonic(), _saved_at(task.folder)
        said = task.log.read_bytes()[sent_bytes:]
        sent_bytes += len(said)
        get(desk.take.remote(there, read_files(task.folder), order.task.log, said))

    def meanwhile() -> None:
        if time.monotonic() - sent_at >= _SEND and _saved_at(task.folder) != saved_at:
            send()

    code = run_here(task, order.gpu, place, stop_signal, meanwhile)
    send()
    return code


def moved(task: Task, place: Path) -> Task:
    """The task with its run folder in `place`; data and caches that are named by relative paths are the node's own."""
    places = task.places
    inside = places.out is not None and not places.out.is_absolute() and ".." not in places.out.parts
    own = dataclasses.replace(
        places,
        out=places.out if inside else None,
        data_root=places.data_root if places.data_root and places.data_root.is_absolute() else None,
        cache=places.cache if places.cache and places.cache.is_absolute() else None,
        boards=None,
    )
    folder = place / own.runs / task.folder.parent.name / task.folder.name
    return dataclasses.replace(task, places=own, folder=folder, log=place / "log.txt")


def _saved_at(folder: Path) -> int:
    try:
        return (folder / CHECKPOINT).stat().st_mtime_ns
    except OSError:
        return 0


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a run folder by name, in the order of the alphabet; none of a folder that is not there.

    A log that is read after the checkpoint is never behind it.
    """
    names = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
    return {path.name: path.read_bytes() for path in names}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files, each as a whole; the note of how far the run is comes last."""
    for name in sorted(files, key=lambda name: name == NOTED):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(files[name])
