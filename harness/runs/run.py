"""One run: one training and one scoring, in a folder of its own, ending in one record.

A run is a function of (protocol, method, options, recipe, seed, data); its folder is named after them, so that the
same command finds its own folder again and another command never does.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

import torch

from harness.check.skips import declared_skips
from harness.data.open_dataset import default_cache
from harness.episodes.fixed import episode_places
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.isolated import Bounds, player_of, scored
from harness.evaluation.score import Scores, curves
from harness.method.interface import Method
from harness.method.registry import build_method, task_for
from harness.records.parts import Isolated
from harness.records.record import Record
from harness.runs.begin import begin
from harness.runs.build_record import Before, record_of, selection_in_words, trained_on, training_marks
from harness.runs.folder import (
    CHECKPOINT,
    NOTED,
    RECORD,
    SCORES,
    TRAINING_LOG,
    UNTRAINED,
    check_place,
    enter,
    note,
    write_scores,
    write_text,
)
from harness.runs.init import load_init
from harness.runs.resolve import Prepared, as_cut, limits_of
from harness.runs.run_errors import file_error, folder_error, memory_error, out_of_memory
from harness.runs.status import ENTER_WITHIN, IN_USE, TRAINED, TRY_EVERY, lock_of
from harness.runs.unasked import check_unchanged, warn_of_unasked
from harness.runs.untrained import check_untrained
from harness.training.callbacks import Callback, Called, reporting_to
from harness.training.feature_cache import FeatureCache
from harness.training.frozen_features import seen_once
from harness.training.loop import has_updates, train
from harness.training.reporter import Reporter
from harness.training.run_log import RunLog
from harness.training.state import Progress, Training
from harness.util import progress as screen
from harness.util.allocator import keep_freed_memory
from harness.util.arithmetic import available
from harness.util.atomic_files import check_writable
from harness.util.errors import HarnessError, RunError, UserError
from harness.util.exits import exit_call, exits_raised
from harness.util.json_files import read_json
from harness.util.option_names import in_shell
from harness.util.signals import nothing_to_save
from harness.util.tensor_files import WEIGHTS, save_tensors
from harness.util.threads import torch_threads

LOG = logging.getLogger(__name__)

WITHOUT_FEEDBACK = 200
"""Test episodes at most that a learner of masks also lives without feedback, for the curves of its record."""


def run(prepared: Prepared, quiet: bool = False, callbacks: Sequence[Callback] = ()) -> Record:
    """Trains (or resumes), scores, and writes the record into the run folder, which is returned.

    A finished run is not repeated: its record is read and returned, and no callback called. Raises UserError if the
    folder holds an unfinished run and neither `resume` nor `fresh` was asked for, or a run of something else, or
    nothing to resume.
    """
    record = _in_folder(prepared, quiet, callbacks, _run)
    assert record is not None
    return record


def train_only(prepared: Prepared, quiet: bool = False, callbacks: Sequence[Callback] = ()) -> None:
    """Trains (or resumes), and scores no test episode: the same run with `resume` goes on to that.

    Raises UserError as `run` does, and where there is nothing to train.
    """
    _in_folder(prepared, quiet, callbacks, _train_alone)


Body = Callable[[Prepared, Reporter, Called], Record | None]


def _in_folder(prepared: Prepared, quiet: bool, callbacks: Sequence[Callback], body: Body) -> Record | None:
    """What `body` returns, run while nobody else may enter the folder; or the record that is there already."""
    from filelock import FileLock, Timeout

    folder = prepared.folder
    check_place(prepared)
    lock = FileLock(lock_of(folder), timeout=ENTER_WITHIN)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(poll_interval=TRY_EVERY)
    except Timeout:
        raise UserError(f"{folder} {IN_USE}") from None
    except OSError as error:
        raise folder_error(error, folder, prepared.request.folder is not None) from error
    try:
        if not folder.exists():
            check_writable(folder, CHECKPOINT)  # now, and not after an hour of training
        finished = enter(prepared)
        if finished:
            check_unchanged(prepared, finished)
            LOG.info(f"the run in {folder} was finished on {finished.when:%Y-%m-%d at %H:%M} UTC and is not repeated")
            warn_of_unasked(prepared, finished)
        return finished or _watched(prepared, quiet, callbacks, body)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # empty where the run was refused before its first note
        lock.release()


def _watched(prepared: Prepared, quiet: bool, callbacks: Sequence[Callback], body: Body) -> Record | None:
    """Runs; whatever ends it is noted in its folder, where that can be written, and told in words."""
    checkpoint = prepared.folder / CHECKPOINT
    try:
        level = screen.QUIET if quiet else max(screen.level(), screen.NORMAL)
        with torch_threads(prepared.request.threads), nothing_to_save(), exits_raised(), screen.shown(level):
            return _called_back(prepared, [RunLog(prepared.folder / TRAINING_LOG), *callbacks], body)
    except KeyboardInterrupt:
        _note_end(prepared, "interrupted")
        raise
    except SystemExit as error:
        _note_end(prepared, "failed")
        raise RunError(f"{prepared.method.name} ended the run: it called {exit_call(error)}") from error
    except Exception as error:
        _note_end(prepared, "failed")
        if isinstance(error, OSError):
            raise file_error(error, checkpoint) from error
        if isinstance(error, HarnessError) and isinstance(error.__cause__, OSError):
            raise file_error(error.__cause__, checkpoint) from error
        if out_of_memory(error):
            raise memory_error(error, checkpoint) from error
        if isinstance(error, UserError) and (prepared.folder / NOTED).is_file():  # such as an answer that is none
            raise RunError(str(error)) from error
        raise


def _called_back(prepared: Prepared, callbacks: Sequence[Callback], body: Body) -> Record | None:
    """Runs, and tells the callbacks of its end."""
    called, record = Called(callbacks), None
    try:
        record = body(prepared, Reporter(), called)
        return record
    finally:
        called.end(record)


def _note_end(prepared: Prepared, status: str) -> None:
    # On a full disk nothing can be noted; the run can be resumed all the same. One that did not get as far as its first
    # note (a device that is not there) can be begun again as if nothing had been. One that is done stays so, whatever
    # becomes of those who are told of it.
    with contextlib.suppress(HarnessError, OSError, ValueError):
        if read_json(prepared.folder / NOTED)["status"] != "done":
            note(prepared, status)


def training_of(prepared: Prepared, say: Callable[[str], None]) -> Training:
    """The training of a run at its very beginning; torch's threads are the caller's to set (`torch_threads`).

    Raises UserError for a method that cannot be built with its options, with the lines of those that the recipe gives.
    """
    request, device, card = prepared.request, prepared.device, prepared.dataset.card
    keep_freed_memory()
    task = task_for(prepared.method.cls, prepared.protocol, card.image_shape, card.classes["train"])
    with prepared.resolved.naming_options(request.options):
        method = build_method(prepared.method.cls, task, prepared.options, request.seed, device)
    declared_skips(method)  # refused now, and not after hours of training
    return Training(
        method,
        EpisodeSource(prepared.dataset, device),
        prepared.protocol,
        prepared.budget,
        request.seed,
        prepared.folder / CHECKPOINT,
        {"identity": prepared.identity},
        limits_of(request, prepared.budget),
        FeatureCache((request.cache or default_cache()).expanduser().absolute() / "pretrained", say),
        prepared.processes,
    )


def _train_alone(prepared: Prepared, reporter: Reporter, called: Called) -> None:
    _trained(prepared, reporter, called, alone=True)
    note(prepared, TRAINED)


def _trained(
    prepared: Prepared, reporter: Reporter, called: Called, alone: bool = False
) -> tuple[Prepared, Training, Before, Progress]:
    """The run as it was cut, its training at its end, the best weights in its method and in the folder, and what came
    before it."""
    request, folder = prepared.request, prepared.folder
    training = training_of(prepared, screen.say)
    method, source = training.method, training.source
    if not has_updates(training):
        check_untrained(prepared, method, alone)
    before = load_init(method, request.init, prepared.method.target)
    if request.options:
        _check_options(prepared, method, source)
    screen.say(f"{prepared.loaded.name} with {prepared.method.name} on {prepared.dataset.name}, run folder {folder}")
    if any(True for _ in method.parameters()) and prepared.budget.stages and (said := selection_in_words(prepared)):
        screen.say(said)
    if prepared.budget.precision == "tf32" and "tf32" not in available(prepared.device):
        screen.say(f"tf32 is a mode of GPUs: what is left to train is done in fp32 on {prepared.device}")
    begin(prepared, called)
    try:
        tell = reporting_to(called.callbacks)

        def report(progress: Progress, training: Training, event: str) -> None:
            reporter.training(progress, training, event)
            tell(progress, training, event)

        progress = train(training, report)
    finally:
        reporter.close()
    prepared = as_cut(prepared, progress)
    header = {
        "identity": prepared.identity,
        "train_episodes": before.episodes + progress.episodes,
        **({} if progress.updates else UNTRAINED),
        "marks": training_marks(prepared, progress, before),
        "devices": trained_on(progress, before),
    }
    save_tensors(folder / WEIGHTS, method.state_dict(), header)
    return prepared, training, before, progress


def _run(prepared: Prepared, reporter: Reporter, called: Called) -> Record:
    prepared, training, before, progress = _trained(prepared, reporter, called)
    method, source, protocol, folder = training.method, training.source, prepared.protocol, prepared.folder
    note(prepared, "scoring")
    began, total = time.monotonic(), prepared.identity["test_episodes"]
    scores, isolated = _scored(prepared, method, source, training.cache)
    write_scores(folder / SCORES, scores)
    score_seconds = time.monotonic() - began
    drawn = curves(protocol, scores)
    if protocol.masks:
        alone = evaluate(method, source, protocol, "test", min(total, WITHOUT_FEEDBACK), with_feedback=False)
        drawn |= {f"{name}, null feedback": values for name, values in curves(protocol, alone).items()}
        reporter.curves(drawn)
    record = record_of(prepared, method, progress, before, scores, drawn, score_seconds, prepared.device, isolated)
    write_text(folder / RECORD, record.model_dump_json(indent=1))
    note(prepared, "done")
    return record


def _check_options(prepared: Prepared, method: Method, source: EpisodeSource) -> None:
    """Raises UserError if the method with the given options raises in its first episode, as layers without channels do;
    the generators of random numbers are left as they were."""
    try:
        with torch.random.fork_rng(devices=[source.device] if source.device.type == "cuda" else []):
            evaluate(method, source, prepared.protocol, "train", 1)
    except HarnessError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        given = ", ".join(f"{name}={value}" for name, value in prepared.request.options.items())
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = " (--debug shows where)" if in_shell() else ""
        raise UserError(f"{type(method).__name__} with {given} cannot play an episode: {said}{where}") from error


def _scored(
    prepared: Prepared, method: Method, source: EpisodeSource, cache: FeatureCache | None
) -> tuple[Scores, Isolated | None]:
    """Scores of all test episodes, in a process of the method's own if that was asked for: on a CPU, the bits are the
    same."""
    request, protocol, total = prepared.request, prepared.protocol, prepared.identity["test_episodes"]
    if not (request.isolated or request.fresh_workers):
        return evaluate(*seen_once(method, source, protocol, "test", total, cache), protocol, "test", total), None
    places = episode_places(protocol, request.data_root, request.cache, prepared.loaded.base)
    return scored(
        player_of(prepared.method, method, prepared.options, request.seed),
        source,
        protocol,
        "test",
        total,
        fresh=request.fresh_workers,
        bounds=Bounds(hidden=places),
    )
