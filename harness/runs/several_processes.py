"""One run by several processes (torchrun): the first does all of it, the others take part in its training.

Whatever fails is said once, by the first process. What another has to say of its own end it leaves in the launcher's
store, before its connections close.
"""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from harness.runs.resolve import Prepared
from harness.runs.run import training_of
from harness.training.follow import check_shares, follow
from harness.training.processes import ORDER_LIMIT, UPDATE_LIMIT, Order, Processes, ProcessLost
from harness.util.errors import HarnessError, RunError, UserError
from harness.util.exits import exits_raised
from harness.util.launch import Launch
from harness.util.option_names import switch
from harness.util.signals import nothing_to_save
from harness.util.threads import torch_threads


def run_together(launch: Launch, prepare: Callable[[], Prepared], lead: Callable[[Prepared], int]) -> int:
    """The exit code of this process: of the first one what `lead` gives, which runs what `prepare` resolved.

    Raises RunError where another process fails, UserError where a batch is smaller than the number of processes.
    """
    with _joined(launch) as (processes, store):
        if processes.rank == 0:
            with _leading(processes, store):
                prepared = prepare()
                check_shares(prepared.budget, processes.world)
                processes.give(Order.PREPARE)
                return lead(_with(processes, prepared))
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
def _leading(processes: Processes, store: dist.Store) -> Iterator[None]:
    """Ends the training of the others, however the block ends; says why, where that is for one of them."""
    try:
        yield
    except ProcessLost as error:
        processes.ended = True
        raise RunError(_why(processes, store, error)) from error
    finally:
        if not processes.engaged:
            with contextlib.suppress(RunError):  # then they are gone already
                processes.give(Order.END)


def _followed(processes: Processes, store: dist.Store, prepare: Callable[[], Prepared]) -> int:
    try:
        if processes.take()[0] is Order.PREPARE:
            prepared = _with(processes, prepare())
            with torch_threads(prepared.request.threads), nothing_to_save(), exits_raised():
                follow(training_of(prepared, lambda _: None))
        return 0
    except ProcessLost:
        return 1
    except KeyboardInterrupt:
        _leave_word(processes, store, "it was stopped")
        return 130
    except (Exception, SystemExit) as error:
        said = str(error) if isinstance(error, HarnessError) else traceback.format_exc().strip()
        _leave_word(processes, store, said)
        return 1


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
    return f"harness/ended/{rank}"


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
