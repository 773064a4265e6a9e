"""`harness.run`: train and score a method on a protocol, in one call."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api.checked import checked
from harness.api.command import call_text
from harness.api.methods import check_task
from harness.api.named import DataLike, MethodLike, ProtocolLike, load_method, load_protocol, on_data, path_of
from harness.api.result import Result
from harness.boards.outcome import outcome_of
from harness.boards.places import boards_to_write
from harness.boards.row import publish_run
from harness.data.open_dataset import default_cache
from harness.method.interface import Method
from harness.method.options import resolved_options
from harness.method.registry import BUILT_WITH, task_for
from harness.records.provenance import cores
from harness.runs.resolve import Prepared, Request, prepare, resumed_or_begun, with_seeds
from harness.runs.run import run as run_prepared
from harness.runs.several_processes import device_of, run_together
from harness.tracking import tracker
from harness.training.callbacks import Callback
from harness.training.recipe import BUDGETS
from harness.util.atomic_files import check_writable
from harness.util.errors import UserError, unknown
from harness.util.launch import launched, one_seed
from harness.util.one_at_a_time import one_at_a_time
from harness.util.precision import Precision
from harness.util.tensor_files import save_tensors

LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch


@checked
@one_at_a_time
def run(
    protocol: ProtocolLike,
    method: MethodLike,
    *,
    budget: str = "quick",
    seeds: int | Iterable[int] = 0,
    options: Mapping[str, Any] | None = None,
    data: DataLike = "real",
    recipe: str | Path | None = None,
    lr: float | None = None,
    batch: int | None = None,
    override: Mapping[str, Any] | None = None,
    init: str | Path | Result | None = None,
    episodes: int | None = None,
    seconds: float | None = None,
    test_episodes: int | None = None,
    device: str | torch.device = "auto",
    precision: Precision | None = None,
    threads: int | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
    verify_cache: bool = False,
    out: str | Path = "runs",
    folder: str | Path | None = None,
    board: bool = True,
    boards: str | Path | None = None,
    check: bool = True,
    isolated: bool = False,
    fresh_workers: bool = False,
    searched: int = 0,
    resume: bool = False,
    fresh: bool = False,
    callbacks: Sequence[Callback] = (),
    log: str | Sequence[str] = (),
    quiet: bool = False,
) -> Result:
    """Trains a method on a protocol by its recipe, scores it, and puts its row on the board: `harness run`.

    In a script that torchrun starts, all processes train together; each must make the same call, and gets the result.

    Args:
        protocol: a shipped protocol's name, a YAML file, the mapping that such a file would hold, or a model.
        method: a name, 'file.py:Class', a class, or an instance. Of an instance the weights are where training begins;
            it must have been built with the same `options`.
        budget: how much training: smoke, quick, day or full.
        seeds: a seed, or several; each is a run of its own.
        options: options of the method.
        data: 'real' (the protocol's own), 'stand-in' (its generated data), the name of a data set, a mapping as under
            `dataset` in a protocol file, or what `harness.dataset` gives.
        recipe: another recipe file than the method's own.
        lr: the learning rate of every stage; marked on the row, as are all changes of a recipe.
        batch: episodes an update, of every stage.
        override: other keys of every stage, or of one: `{"warmup": 100, "the protocol.episodes": 5000}`.
        init: a finished run's folder or result, or a file of weights, where training begins; of another method, from
            what both have (docs/runs.md).
        episodes: end training after so many episodes, rounded up to whole updates.
        seconds: at most so much training time.
        test_episodes: score only so many test episodes; marked on the row.
        device: cpu, cuda, cuda:1 or auto.
        precision: what training may round to: tf32 (a GPU's convolutions and matrix products) or bf16 (convolutions);
            by default the recipe's, fp32. Scoring is fp32 always.
        threads: torch's threads, by default the cores that this process may use.
        data_root: where the real data sets are, by default the environment variable HARNESS_DATA.
        cache: where decoded data are kept, by default HARNESS_CACHE or the user's cache folder.
        verify_cache: hash all decoded pixels again, also those that have not changed since they were last checked.
        out: where run folders go.
        folder: this run folder, in place of one that is named after the run.
        board: whether the row goes to a board.
        boards: the folder of boards, by default `leaderboards`, for stand-in data `runs/boards`.
        check: whether the method is checked; without that its row is not ranked.
        isolated: score the method in a process of its own.
        fresh_workers: score each batch of episodes in a process that has seen no other.
        searched: of how many trials of a search these hyperparameters had the best validation score; marks the row.
        resume: go on with an unfinished run.
        fresh: set an earlier run folder aside and begin again.
        callbacks: objects derived from `harness.Callback`, called at updates, validations, stages and the end.
        log: trackers to log to: tensorboard, wandb, trackio or mlflow (each an extra of the package).
        quiet: print nothing about progress.

    Returns:
        The result: metrics, curves and records of all seeds. A run that was finished before is not repeated.

    Raises:
        UserError: for whatever is not there, does not fit or cannot be, before anything is run.
        RunError: for a run that fails on its way; `resume=True` goes on from its last checkpoint.
    """
    device = str(device)
    arguments = dict(locals())  # every argument as it was given, for the record
    store = path_of(cache)
    if isinstance(init, Result):
        init = _run_of(init)
    loaded, found = load_protocol(protocol), load_method(method, store)
    own_data = data if isinstance(data, str) and data in ("real", "stand-in") else "real"
    if own_data is not data:
        loaded = on_data(loaded, data)
    if isinstance(method, Method):
        if init is not None:
            raise UserError("an instance of a method brings its own weights: leave out init, or give the class")
        init = _weights_of(method, store or default_cache())
        options = _options_of(method, options)
        if loaded.protocol.ways is not None:
            check_task(method, task_for(found.cls, loaded.protocol, loaded.protocol.card.image_shape))
    each_seed = seeds if isinstance(seeds, Iterable) else [seeds]
    wanted = [int(each) if isinstance(each, np.integer) else each for each in each_seed]
    if not wanted or not all(type(each) is int and 0 <= each < 2**63 for each in wanted):
        raise UserError(f"seeds are {wanted}; a seed is a whole number from 0 to 2^63 - 1, and there must be one")
    wanted = list(dict.fromkeys(wanted))
    for name, value in (("episodes", episodes), ("test_episodes", test_episodes), ("threads", threads)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}; it must be a whole number of at least 1")
    for key, own in (("lr", lr), ("batch", batch)):
        if own is not None and key in (override or {}):
            raise UserError(f"{key} is given twice: as {key}={own} and in override")
    if searched < 0:
        raise UserError(f"searched is {searched}; it is a number of trials")
    if budget not in BUDGETS:
        raise unknown("budget", budget, BUDGETS)
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(f"seconds is {seconds}; it must be a number, and more than 0")
    if resume and fresh:
        raise UserError("resume goes on with an unfinished run and fresh sets it aside; choose one of them")
    trackers = [tracker(name) for name in ([log] if isinstance(log, str) else log)]
    launch = launched()
    if launch is not None:
        one_seed(launch, len(wanted))
        device = device_of(device, launch)
    request = Request(
        protocol=loaded.name,
        method=found.name,
        budget=budget,
        seed=wanted[0],
        options=dict(options or {}),
        recipe=path_of(recipe),
        changes={**(override or {}), **{k: v for k, v in (("lr", lr), ("batch", batch)) if v is not None}},
        episodes=episodes,
        seconds=seconds,
        test_episodes=test_episodes,
        data=own_data,
        data_root=path_of(data_root),
        cache=store,
        verify_cache=verify_cache,
        out=Path(out).expanduser(),
        folder=path_of(folder),
        init=path_of(init),
        isolated=isolated or fresh_workers,
        fresh_workers=fresh_workers,
        searched=searched,
        resume=resume,
        fresh=fresh,
        device=device,
        threads=threads or max(1, cores() // (launch.local_world if launch else 1)),
        precision=precision,
        command=call_text(
            run,
            protocol,
            found,
            data,
            {
                **arguments,
                "seeds": wanted if isinstance(seeds, Iterable) else wanted[0],
                "init": init,
                "options": options,
            },
        ),
    )

    def ran(first: Prepared) -> Result:
        for note in first.resolved.notes:
            LOG.info(note)
        where = boards_to_write(path_of(boards), first.stand_in) if board else None
        return finished(with_seeds(first, wanted), where, check, quiet, [*callbacks, *trackers])

    if launch is None:
        return ran(prepare(request, loaded, found))
    return run_together(launch, lambda: prepare(request, loaded, found), ran)


def finished(
    runs: list[Prepared],
    boards: Path | None,
    check: bool = True,
    quiet: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """The result of prepared runs of one protocol and method, run one after another; rows go to `boards` (None: none).

    Where some of them resume, those that were not begun begin, unless none was begun.
    """
    if boards is not None:
        check_writable(boards, f"{runs[0].loaded.name}.jsonl.lock")  # now, and not after training
    records, view = [], None
    for prepared in resumed_or_begun(runs):
        record = run_prepared(prepared, quiet, callbacks)
        if boards is not None:
            record, view = publish_run(record, prepared, boards, check)
        records.append(record)
    outcome = None if view is None or boards is None else outcome_of(records, view, boards)
    return Result(runs[-1].protocol, tuple(records), tuple(each.folder for each in runs), boards, outcome)


def _options_of(method: Method, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that an instance was built with; UserError where others are asked for."""
    if not hasattr(method, BUILT_WITH):  # built by its class alone, which says nothing of them
        return dict(given or {})
    cls = type(method)
    built = resolved_options(cls, getattr(method, BUILT_WITH))
    asked = resolved_options(cls, {**built, **(given or {})})
    if differing := [f"{name}={built[name]} and not {asked[name]}" for name in built if built[name] != asked[name]]:
        raise UserError(f"this {cls.__name__} was built with {', '.join(differing)}; leave out options, or build it so")
    return built


def _run_of(result: Result) -> Path:
    """The folder of the only run of a result."""
    if len(result.folders) != 1:
        folders = ", ".join(map(str, result.folders))
        raise UserError(f"init is a result of {len(result.folders)} runs; give the folder of one of them: {folders}")
    return result.folders[0]


def _weights_of(method: Method, cache: Path) -> Path:
    """A file with the weights of an instance, named after their content."""
    weights = {name: each.detach().cpu().contiguous() for name, each in method.state_dict().items()}
    digest = hashlib.sha256()
    for name, each in sorted(weights.items()):
        digest.update(f"{name} {each.dtype} {list(each.shape)}".encode())
        digest.update(each.numpy().tobytes())
    path = cache.expanduser().absolute() / "instances" / f"{digest.hexdigest()[:32]}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, weights, {})
    return path
