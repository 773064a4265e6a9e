"""What the processes of a training do but for the first: its updates, as that one orders them."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from harness.training.processes import Order
from harness.training.recipe import Budget
from harness.training.stages import RunningStage, begin_stage
from harness.training.state import Progress, Training
from harness.util import signals
from harness.util.errors import RunError, UserError


def check_shares(budget: Budget, processes: int) -> None:
    """Raises UserError where a batch has too few episodes, or images, to be shared by so many processes."""
    for stage in budget.stages:
        batches = {"episodes": stage.batch or budget.batch}
        if stage.classes_weight is not None:
            batches["images"] = stage.classes_batch
        for what, batch in batches.items():
            if batch < processes:
                raise UserError(
                    f"{processes} processes cannot share a batch of {batch} {what} (stage '{stage.name}'): start "
                    f"{batch} or fewer (torchrun --nproc-per-node), or make it larger, which is another training"
                )


def state_for_others(
    training: Training, progress: Progress, tensors: dict[str, Tensor], ended: RunningStage | None = None
) -> dict[str, Any]:
    """What other processes begin a stage with: counters, weights, what was saved of it, what the last stage made."""
    temporary = ended.objective.temporary if ended else None
    return {
        "header": training.header,
        "progress": dataclasses.asdict(progress),
        "weights": _on_host(training.method.state_dict()),
        "stage": _on_host({name: each for name, each in tensors.items() if name.startswith(("optimizer.", "beside."))}),
        "temporary": _on_host(temporary.state_dict() if temporary else {}),
    }


def follow(training: Training) -> tuple[Order, Any]:
    """Trains along with the first process, until that has no further orders for it; the last one, with its content.

    Raises RunError where it trains something else, and ProcessLost where it is gone.
    """
    progress, running = Progress(), None
    training.method.train()
    with signals.deferred() as stop:
        while True:
            order, content = training.processes.take(stop.requested)
            if order in (Order.END, Order.RESULT):
                return order, content
            if order is not Order.UPDATE:
                if content["header"] != training.header:
                    raise RunError(
                        "it is about to train something else than the first one: other code, data or weights"
                    )
                progress = Progress(**content["progress"])
                running = _begin(training, progress, content, running)
            else:
                assert running is not None
                running.advance(progress)


def _begin(training: Training, progress: Progress, content: dict[str, Any], ended: RunningStage | None) -> RunningStage:
    training.method.load_state_dict(content["weights"])
    if ended and ended.objective.temporary:
        # The next stage may go on with it.
        ended.objective.temporary.load_state_dict(content["temporary"])
    return begin_stage(training, progress.stage, content["stage"], ended)


def _on_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: each.detach().cpu() for name, each in tensors.items()}
