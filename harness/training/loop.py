"""Training: stages of a recipe, one update after another, with exact resume.

The state of a training is its checkpoint and nothing else: weights, optimiser moments, and the counters of
`Progress`. Episodes are pure functions of their number and every update has random bits of its own, so a
training that was interrupted goes on exactly as if it had not been (bit for bit on a CPU).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack

from harness.training import checkpoint
from harness.training.cached_stage import with_cache
from harness.training.follow import state_for_others
from harness.training.processes import Order
from harness.training.selection import Selection
from harness.training.stages import begin_stage, check_stages
from harness.training.state import Limits, Progress, Training
from harness.util import signals
from harness.util.devices import name_of

Report = Callable[[Progress, Training, str], None]
"""Told of every update ('update'), validation ('validation'), change of stage ('stage') and save ('saved')."""


def has_updates(training: Training) -> bool:
    """Whether there is anything to train: stages, and parameters that take gradients."""
    return bool(training.budget.stages) and any(each.requires_grad for each in training.method.parameters())


def train(training: Training, report: Report = lambda *_: None) -> Progress:
    """Runs or resumes a training until its stages end or a limit cuts it; leaves the best weights in the method.

    Raises RunError when the loss stops being a number (the last good checkpoint stays), and KeyboardInterrupt
    after a signal to stop, once everything is saved: after the update, or the batch of validation episodes, in which it
    came. A signal to save is followed at the same points.
    """
    stages, limits, processes = training.budget.stages, training.limits, training.processes
    if not has_updates(training):
        return Progress(done=True)
    check_stages(training)
    progress, tensors, best = checkpoint.restore(training)
    selection = Selection(training, best)
    training.method.train()
    progress.processes = max(progress.processes, processes.world)
    processes.give(Order.START, state_for_others(training, progress, tensors))
    device = name_of(training.source.device)
    running = begin_stage(training, progress.stage, tensors)
    began, saved = time.monotonic() - progress.seconds, time.monotonic()
    over = progress.done and progress.ends_at(training.total, limits.seconds)
    progress.done = over and not (progress.selecting or selection.is_missing(progress))
    if not over:
        progress.cut, progress.at_cut = "", None

    def out_of_time() -> bool:
        return limits.seconds is not None and time.monotonic() - began >= limits.seconds

    def stopping() -> bool:
        return stop.requested or out_of_time()

    def save() -> None:
        nonlocal saved
        stage.running.read_losses(progress)
        checkpoint.save(training, progress, stage.running, selection.best)
        saved, stop.save = time.monotonic(), False
        report(progress, training, "saved")

    def select() -> None:
        stage.running.read_losses(progress)
        stage.running.release_memory()
        progress.selecting = True
        with stage.running.averaged():
            selection.look(progress, between_batches)
        progress.selecting = False
        report(progress, training, "validation")

    def select_at_cut() -> None:
        # Under a higher limit the training goes on as if it had not been looked at here: the checkpoint has the score
        # alone.
        save()
        before, best = dataclasses.replace(progress, history=list(progress.history)), selection.best
        stage.running.release_memory()
        with stage.running.averaged():
            selection.look(progress, lambda _: stop.check())
        before.at_cut = progress.history[-1]["score"]
        checkpoint.save(training, before, stage.running, best)
        report(progress, training, "validation")

    def between_batches(_: int) -> None:
        if stop.requested or stop.save:
            save()
        stop.check()

    with signals.deferred() as stop, ExitStack() as claim:
        stage = with_cache(running, training.cache, claim, stopping)
        while not progress.done:
            over = progress.ends_at(training.total, limits.seconds)  # of a checkpoint, before lower limits
            updated = not (progress.selecting or over) and stage.advance(progress)
            progress.seconds = time.monotonic() - began
            stop.requested |= processes.stopping
            if updated:
                if device not in progress.devices:
                    progress.devices.append(device)
                report(progress, training, "update")
            ended = stage.ended(progress)
            if progress.selecting or (not over and selection.is_due(progress, stage.running, ended)):
                select()
            if ended:
                stage.running.read_losses(progress)
                stage.running.settle()
                stage.close(progress)
                progress.done = progress.stage + 1 == len(stages)
                if not progress.done:
                    progress.begin_stage(progress.stage + 1)
                    processes.give(Order.STAGE, state_for_others(training, progress, {}, stage.running))
                    running = begin_stage(training, progress.stage, before=stage.running)
                    stage = with_cache(running, training.cache, claim, stopping)
                report(progress, training, "stage")
            progress.seconds = time.monotonic() - began
            if not progress.done and (progress.episodes >= training.total or out_of_time()):
                # Limits that it was past already would have ended it earlier, elsewhere.
                reached = Limits(progress.episodes) if over else limits
                progress.done, progress.cut = True, progress.cut or reached.text
            if progress.done and selection.is_missing(progress):
                if progress.cut:
                    select_at_cut()
                    break
                select()
            if progress.done or stop.requested or stop.save or time.monotonic() - saved >= limits.checkpoint_seconds:
                save()
            stop.check()
    processes.give(Order.END)
    stage.running.settle()
    if selection.best is not None:
        training.method.load_state_dict(selection.best)
    return progress
