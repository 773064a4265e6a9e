"""A stage of a training while it runs: its objective, its optimiser, and one update after another."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from harness.protocol.models import AnyProtocol
from harness.training.averaging import WeightAverage
from harness.training.clipping import Clipping
from harness.training.objective_of_stage import objective_of_stage
from harness.training.objectives import Drawn, Loss, Objective
from harness.training.optimizer import RunningOptimizer, running_optimizer
from harness.training.recipe import Optimizer, Stage, staged
from harness.training.replay import CudaGraphs, Replays
from harness.training.state import Progress, Training
from harness.training.update_errors import explained
from harness.training.whole_batch import whole_batch_statistics
from harness.util import philox
from harness.util.arithmetic import arithmetic
from harness.util.device_copy import OnItsWay, to_host
from harness.util.errors import RunError, UserError
from harness.util.tensor_files import with_prefix, without_prefix


@dataclass(frozen=True)
class RunningStage:
    """The numbered stage of a training: what it minimises, and the optimiser that does.

    `average` is that of the method's weights, if the recipe asks for one. `unread` are losses that the host has not
    read yet, each with the number of its update and its scored steps.
    """

    training: Training
    number: int
    objective: Objective
    optimizer: RunningOptimizer
    average: WeightAverage | None = None
    unread: deque[tuple[int, OnItsWay, int]] = field(default_factory=deque)

    @cached_property
    def replays(self) -> Replays | None:
        """What replays updates: on a GPU, by one process."""
        if self.training.source.device.type != "cuda" or not self.training.processes.alone:
            return None
        return Replays(self.recorded, self.objective.trained, CudaGraphs(self.training.source.device))

    @property
    def spec(self) -> Stage:
        """What the recipe says of the stage."""
        return self.training.budget.stages[self.number]

    @property
    def running(self) -> RunningStage:
        """Itself; the stage within, where a cache is around it."""
        return self

    @property
    def batch(self) -> int:
        """Episodes an update."""
        return self.spec.batch or self.training.budget.batch

    def advance(self, progress: Progress) -> bool:
        """One update: a batch of episodes, one backward pass, one step of the optimiser. Returns True: an update.

        Its loss is read at once or, if losses are read late, after the next update was sent to the device. Raises
        RunError where a loss that is read is no number, UserError where the objective leaves nothing to train.
        """
        training = self.training
        lr = learning_rate(self.spec, self.optimizer.settings, progress.stage_episodes, self.batch)
        numbers = np.arange(progress.stage_episodes, progress.stage_episodes + self.batch)
        with training.processes.update(self.objective.trained, self.batch):
            drawn = self.objective.drawn(numbers)
            with self._own_bits(progress) as begin:
                if self.replays is None:
                    begin()
                    self._backward(drawn, progress)
                else:
                    loss = self.replays.loss(drawn, begin)
                    self.unread.append((progress.updates, to_host(loss.reported), loss.steps))
                    if not self.reads_late:
                        self.read_losses(progress)
        if self.replays is None:
            self._clip()
        self.optimizer.step(lr)
        progress.count(self.batch)
        if self.average is not None:
            self.average.add(progress.stage_episodes // self.batch)
        if self.reads_late:
            self.read_losses(progress, but=1)
        return True

    def _backward(self, drawn: Drawn, progress: Progress) -> None:
        """Computes the gradients of a batch, unless its loss is read at once and is no number."""
        loss = self._loss(drawn)
        self.unread.append((progress.updates, to_host(self.training.processes.total(loss.reported)), loss.steps))
        if not self.reads_late:
            self.read_losses(progress)
        self._differentiate(loss)

    def recorded(self, drawn: Drawn) -> Loss:
        """The loss of a batch, with its clipped gradients: what is recorded where updates are replayed."""
        loss = self._loss(drawn)
        self._differentiate(loss)
        self._clip()
        return Loss(loss.minimised.detach(), loss.reported, loss.steps)

    def _differentiate(self, loss: Loss) -> None:
        with self._explained():
            loss.minimised.backward()

    def _loss(self, drawn: Drawn) -> Loss:
        self.optimizer.zero_grad()
        with self._explained():
            loss = self.objective.loss(drawn)
        if not loss.minimised.requires_grad:
            raise UserError(
                f"stage '{self.spec.name}' has the objective '{self.spec.objective}', which leaves "
                f"{type(self.training.method).__name__} nothing to train"
            )
        return loss

    def _explained(self) -> AbstractContextManager[None]:
        return explained(type(self.training.method).__name__, self.spec, self.batch)

    def _clip(self) -> None:
        Clipping.of(self.spec, self.training.budget).apply(self.objective.clipped)

    @property
    def reads_late(self) -> bool:
        """Whether the host does not wait for losses: on a GPU, unless the stage's end depends on them."""
        return self.training.source.device.type == "cuda" and self.spec.until_loss is None

    def read_losses(self, progress: Progress, but: int = 0) -> None:
        """Counts the losses of updates, but for those of the last `but`; RunError for one that is no number."""
        while len(self.unread) > but:
            number, loss, steps = self.unread.popleft()
            value = loss.read() / steps  # nats per scored step (or image)
            if not math.isfinite(value):
                raise RunError(f"the training loss is {value} at {_where(self, progress, number)}")
            progress.count_loss(value)

    @contextmanager
    def _own_bits(self, progress: Progress) -> Iterator[Callable[[], object]]:
        """Within, the arithmetic of the update; what it gives begins the update's own random bits."""
        training, device, rank = self.training, self.training.source.device, self.training.processes.rank
        # Processes draw apart, so that episodes of one batch do not share their noise.
        apart = (rank,) if rank else ()
        key = philox.key_of("update", training.seed, progress.updates, *apart)[0]
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            arithmetic(training.budget.precision, device),
            whole_batch_statistics(training.processes),
        ):
            yield lambda: torch.manual_seed(key)

    def ended(self, progress: Progress) -> bool:
        """Whether the stage has had all its episodes, or its loss is low enough."""
        if progress.stage_episodes >= self.spec.episodes:
            return True
        if self.spec.until_loss is None or progress.loss is None:
            return False
        # Half the weight in place: a handful of easy batches right after a change must not end a stage.
        return progress.smoothed_weight > 0.5 and progress.loss < self.spec.until_loss

    def close(self, progress: Progress) -> None:
        """Called once, when the stage has ended."""
        self.release_memory()

    def release_memory(self) -> None:
        """Gives back what only updates need, before something else needs memory."""
        if self.replays is not None:
            self.replays.release()

    def averaged(self) -> AbstractContextManager[None]:
        """Within, the method has the weights that the training would end with here."""
        return self.average.in_place() if self.average is not None else nullcontext()

    def settle(self) -> None:
        """Leaves the weights in the method that the training, or the stage, ends with."""
        if self.average is not None:
            self.average.settle()

    def tensors(self) -> dict[str, Tensor]:
        """The method's weights as they are trained, and the state of the stage beside them, for a checkpoint."""
        temporary, average = self.objective.temporary, self.average
        trained = average.trained if average is not None else None
        return {
            **with_prefix("method", trained or self.training.method.state_dict()),
            **with_prefix("optimizer", self.optimizer.tensors()),
            **with_prefix("beside", temporary.state_dict() if temporary else {}),
            **with_prefix("average", average.mean if average is not None else {}),
        }

    def check_weights(self, progress: Progress) -> None:
        """Raises RunError where a weight is no finite number."""
        finite = [each.isfinite().all() for each in self.training.method.parameters()]
        if finite and not torch.stack(finite).all():
            # The loss would show it at the next update only, when a checkpoint had taken the place of a good one.
            raise RunError(f"a weight is no longer a finite number after {_where(self, progress, progress.updates)}")


def begin_stage(
    training: Training,
    number: int,
    tensors: dict[str, Tensor] | None = None,
    before: RunningStage | None = None,
) -> RunningStage:
    """The numbered stage at its beginning, or as it was when `tensors` were saved; `before` is the stage just ended.

    Raises UserError where the method cannot be trained as the stage says.
    """
    spec = training.budget.stages[number]
    objective = objective_of_stage(
        training, number, stage_protocol(training, spec), before.objective if before else None
    )
    parameters = [each for each in nn.ModuleList(objective.trained).parameters() if each.requires_grad]
    optimizer = running_optimizer(spec.optimizer or training.budget.optimizer, parameters)
    if tensors:
        optimizer.restore(without_prefix("optimizer", tensors))
        if objective.temporary:
            objective.temporary.load_state_dict(without_prefix("beside", tensors))
    average, decay = None, spec.ema_decay or training.budget.ema_decay
    if decay is not None and spec.averaged and training.processes.rank == 0:
        average = WeightAverage.begin(training.method, decay, without_prefix("average", tensors or {}))
    return RunningStage(training, number, objective, optimizer, average)


def learning_rate(stage: Stage, optimizer: Optimizer, done: int, batch: int) -> float:
    """The learning rate of the next update of a stage of which `done` episodes are past."""
    found = stage.lr or optimizer.lr
    if stage.schedule == "cosine":
        found *= 0.5 * (1 + math.cos(math.pi * min(1.0, done / stage.episodes)))
    if stage.warmup:
        found *= min(1.0, (done / batch + 1) / stage.warmup)
    return found


def stage_protocol(training: Training, stage: Stage) -> AnyProtocol:
    """The protocol of a stage; UserError if its labels come at another delay than a method that needs to know was told.

    A method that pairs images with labels by the delay that it was told would learn from the wrong pairs.
    """
    protocol = staged(training.protocol, stage.episode, stage.kind)
    method = training.method
    told, late = method.task.label_delay, protocol.label_delay
    if stage.objective == "pretext" or not type(method).needs_label_delay or late is None or late == told:
        return protocol
    name = type(method).__name__
    if stage.kind is None:
        raise UserError(
            f"stage '{stage.name}' changes the label delay, but {name} is told the delay of the protocol ({told}) and "
            "cannot follow; leave label_delay out of the stage"
        )
    knows = "told of no delay" if told is None else f"told the delay of the protocol ({told})"
    raise UserError(
        f"in stage '{stage.name}' of the kind {stage.kind}, labels come {late} step{'s' if late > 1 else ''} late, "
        f"but {name} is {knows} and cannot follow; leave the kind out of the stage, or give it one without delay "
        "(n_way_k_shot)"
    )


def check_stages(training: Training) -> None:
    """UserError where a stage cannot be trained, before any of them is."""
    for stage in training.budget.stages:
        stage_protocol(training, stage)


def _where(stage: RunningStage, progress: Progress, update: int) -> str:
    """Where in a training something went wrong, what is left of it, and what to try."""
    checkpoint = stage.training.checkpoint
    if not update:
        return (
            f"the first update (stage '{stage.spec.name}'): the method's answers, or its loss, are no finite numbers "
            "at its first weights; 'harness check' looks at both"
        )
    left = f"the last good checkpoint is {checkpoint}"
    if not checkpoint.is_file():
        left = "no checkpoint was written before that"
    return (
        f"update {update} (stage '{stage.spec.name}', {progress.episodes} episodes); {left}. "
        "Try a lower lr or a clip_norm in the recipe."
    )
