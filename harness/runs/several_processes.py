"""One run by several processes (torchrun): the first does all of it, the others take part in its training and are
told what came of it.

Whatever fails is said once, by the first process. What another has to say of its own end it leaves in the launcher's
store, before its connections close.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from harness.runs.resolve import Prepared
from harness.runs.run import training_of
from harness.training.follow import check_shares, follow
from harness.training.processes import ORDER_LIMIT, UPDATE_LIMIT, Order, Processes, ProcessLost
from harness.util import progress
from harness.util.errors import HarnessError, RunError, UserError
from harness.util.exits import exits_raised
from harness.util.faults import told
from harness.util.launch import Launch
from harness.util.option_names import switch
from harness.util.signals import nothing_to_save
from harness.util.threads import torch_threads

T = TypeVar("T")

_RUNS = itertools.count()  # of this process: each has keys of its own in the launcher's store


def run_together(launch: Launch, prepare: Callable[[], Prepared], lead: Callable[[Prepared], T]) -> T:
    """What `lead` gives, which runs in the first process what `prepare` resolved; all others get a copy of it.

    Raises RunError where another process fails, UserError where a batch is smaller than the number of processes.
    """
    with _joined(launch) as (processes, store):
        if processes.rank == 0:
            with _leading(processes, store) as results:
                prepared = prepare()
                check_shares(prepared.budget, processes.world)
                processes.give(Order.PREPARE)
                results.append(lead(_with(processes, prepared)))
                return results[0]
        with progress.shown(progress.SILENT):
            return _followed(processes, store, prepare)


def device_of(name: str, launch: Launch) -> str:
    """The name of this process's device: of the GPUs of a machine each process has its own.

    Raises UserError for the name of a single GPU.
    """
    kind, _, number = name.lower().partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and number:
        raise UserError(f"device '{name}' is one GPU, and there are {launch.world} processes; name cuda, cpu or auto")
    return f"cuda:{launch.local_rank}" if kind == "cuda" else name


@contextmanager
def _joined(launch: Launch) -> Iterator[tuple[Processes, dist.Store]]:
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=UPDATE_LIMIT))
        store = dist.PrefixStore(f"harness/{next(_RUNS)}", store)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=UPDATE_LIMIT)
        orders = _group("gloo", ORDER_LIMIT)
    except (RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise RunError(f"the {launch.world} processes did not come together: {said}") from error
    try:
        yield Processes(rank, world, orders), store
    finally:
        # Closes the connections, which tells whoever still waits.
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


@contextmanager
def _leading(processes: Processes, store: dist.Store) -> Iterator[list[Any]]:
    """Gives the others the result that the block puts into the list, or none; says why where one of them has failed."""
    results: list[Any] = []
    try:
        yield results
    except ProcessLost as error:
        processes.engaged = True  # in what will never end
        raise RunError(_why(processes, store, error)) from error
    finally:
        if not processes.engaged:
            with contextlib.suppress(RunError):  # then they are gone already
                processes.give(Order.RESULT, results)


def _followed(processes: Processes, store: dist.Store, prepare: Callable[[], Prepared]) -> Any:
    """What came of the run; where this process fails, the first one can read why."""
    try:
        order, content = processes.take()
        if order is Order.PREPARE:
            prepared = _with(processes, prepare())
            with torch_threads(prepared.request.threads), nothing_to_save(), exits_raised():
                order, content = follow(training_of(prepared, lambda _: None))
        while order is not Order.RESULT:
            order, content = processes.take()
    except ProcessLost:
        raise
    except KeyboardInterrupt:
        _leave_word(processes, store, "it was stopped")
        raise
    except (Exception, SystemExit) as error:
        said = str(error) if isinstance(error, HarnessError) else told(error) or traceback.format_exc().strip()
        _leave_word(processes, store, said)
        raise RunError(said) from error
    if not content:
        raise RunError("nothing came of the run; the first process says why")
    return content[0]


def _with(processes: Processes, prepared: Prepared) -> Prepared:
    if prepared.device.type == "cuda":
        torch.cuda.set_device(prepared.device)
        processes.sums = _group("nccl", UPDATE_LIMIT)
    return dataclasses.replace(prepared, processes=processes)


def _group(backend: str, limit: timedelta) -> dist.ProcessGroup:
    group = dist.new_group(backend=backend, timeout=limit)
    assert isinstance(group, dist.ProcessGroup)
    return group


def _key(rank: int) -> str:
    return f"ended/{rank}"


def _leave_word(processes: Processes, store: dist.Store, said: str) -> None:
    with contextlib.suppress(RuntimeError):
        store.set(_key(processes.rank), said)


def _why(processes: Processes, store: dist.Store, error: ProcessLost) -> str:
    """What the others said of their ends, or else that one ended without a word."""
    advice = f"What was saved is kept; go on with {switch('resume')}."
    with contextlib.suppress(RuntimeError):
        for rank in range(1, processes.world):
            if store.check([_key(rank)]):
                said = store.get(_key(rank)).decode("utf-8", "replace")
                return f"process {rank} of the {processes.world} (counted from 0) failed: {said}\n{advice}"
    return f"one of the {processes.world} processes ended without a word, as if killed: {error}. {advice}"
