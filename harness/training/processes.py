"""Several processes that train one method together: each on its share of every batch, all with the same weights.

The first process leads: it alone holds the run folder, validates, saves and decides what comes next, and gives the
others their orders; they follow (`harness.training.follow`). Gradients are summed by hand and not by torch's
`DistributedDataParallel`: that hooks into one call of `forward`, and what a method minimises may be many calls, or none
(a loss on episodes of its own, gradients taken within an episode).

Whoever waits for a process that has ended is told by the closed connection, so that no failure leaves others hanging.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.util.errors import RunError

UPDATE_LIMIT = timedelta(minutes=10)
"""How long a process waits for the others within an update, and for all to come at the beginning."""

ORDER_LIMIT = timedelta(days=7)
"""How long a process waits for its next order: the first may be validating, or wait for features that another run
trains."""


class Order(IntEnum):
    """What the first process has the others do next."""

    PREPARE = 1
    START = 2
    UPDATE = 3
    STAGE = 4
    END = 5
    """No more of this training."""
    RESULT = 6
    """Nothing any more: the run is over, and this is what came of it."""


_WITH_CONTENT = (Order.START, Order.STAGE, Order.RESULT)


class ProcessLost(RunError):
    """Another of the processes ended, or did not answer in time."""


@dataclass(eq=False)
class Processes:
    """The processes of a training, as one of them, number `rank` of `world`, sees them.

    `orders` is the group in which orders are given, on the CPU; `sums` that in which tensors of the training's device
    are summed (None: torch's default group, of CPUs). `stopping`: another process was asked to stop. `engaged`: others
    are within something that they do not leave for an order.
    """

    rank: int = 0
    world: int = 1
    orders: dist.ProcessGroup | None = None
    sums: dist.ProcessGroup | None = None
    stopping: bool = False
    engaged: bool = False

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world == 1

    def part(self, count: int) -> slice:
        """This process's share of so many things: consecutive ones, and as many as others have or one more."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def weighted(self, mean: Tensor, count: int) -> Tensor:
        """A mean over this process's share of `count` things, so that the sum over processes is the mean over all."""
        if self.alone:
            return mean
        part = self.part(count)
        return mean * ((part.stop - part.start) / count)

    def total(self, x: Tensor) -> Tensor:
        """The sum over processes of a tensor, which gradients flow through."""
        return x if self.alone else _Sum.apply(x, self)

    def gathered(self, x: Tensor) -> Tensor:
        """x [N, ...] of all processes, [sum of N, ...], in their order."""
        counts = torch.zeros(self.world, dtype=torch.int64)
        counts[self.rank] = len(x)
        with _together():
            dist.all_reduce(counts, group=self.orders)
        sizes: list[int] = counts.tolist()
        first = sum(sizes[: self.rank])
        whole = x.new_zeros(sum(sizes), *x.shape[1:])
        whole[first : first + len(x)] = x
        with _together():
            dist.all_reduce(whole, group=self.sums)
        return whole

    def give(self, order: Order, content: Any = None) -> None:
        """Has the other processes do something; to be called by the first one.

        START, STAGE and RESULT have a content, which is pickled.
        """
        if self.alone:
            return
        with self.engagement():
            self._exchange(order, False)
            if content is not None:
                with _together():
                    dist.broadcast_object_list([content], 0, self.orders)

    def take(self, stop: bool = False) -> tuple[Order, Any]:
        """The next order of the first process with its content; `stop` says that this one was asked to stop."""
        order, content = Order(self._exchange(0, stop)), [None]
        if order in _WITH_CONTENT:
            with _together():
                dist.broadcast_object_list(content, 0, self.orders)
        return order, content[0]

    @contextmanager
    def update(self, modules: Sequence[nn.Module], count: int) -> Iterator[None]:
        """One update, of gradients that the block computes on this process's share of a batch of `count` things.

        Afterwards the parameters of the modules have the gradients of the whole batch, and their buffers have changed
        by the mean of what they changed by in each process. Both are the same in all processes.
        """
        if self.alone:
            yield
            return
        self.engaged = True
        if self.rank == 0:
            self._exchange(Order.UPDATE, False)
        whole = nn.ModuleList(modules)
        buffers = [each for each in whole.buffers() if each.is_floating_point()]
        before = [each.clone() for each in buffers]
        yield
        changes = [self.weighted(each - old, count) for each, old in zip(buffers, before, strict=True)]
        gradients = self._summed(list(whole.parameters()), changes)
        with torch.no_grad():
            for each, old, change in zip(buffers, before, gradients, strict=True):
                each.copy_(old + change.view_as(old))
        self.engaged = False

    @contextmanager
    def engagement(self) -> Iterator[None]:
        """Within, others wait for what comes and for no order; an exception leaves it so."""
        self.engaged = True
        yield
        self.engaged = False

    def _summed(self, parameters: list[nn.Parameter], more: list[Tensor]) -> list[Tensor]:
        """Sums the gradients of the parameters, in place, and flat tensors of what `more` sums to, as one bucket."""
        has = torch.tensor([each.grad is not None for each in parameters], dtype=torch.uint8)
        with _together():
            # On the CPU: nobody waits for a GPU, and who fails before this never leaves others inside a sum on one.
            dist.all_reduce(has, dist.ReduceOp.MAX, self.orders)
        moved = [each for each, some in zip(parameters, has.tolist(), strict=True) if some]
        for each in moved:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        tensors = [each.grad for each in moved] + more
        if not tensors:
            return []
        flat = torch.cat([each.detach().flatten() for each in tensors if each is not None])
        with _together():
            dist.all_reduce(flat, group=self.sums)
        sums = flat.split([each.numel() for each in tensors if each is not None])
        for each, gradient in zip(moved, sums, strict=False):
            assert each.grad is not None
            each.grad.copy_(gradient.view_as(each))
        return list(sums[len(moved) :])

    def _exchange(self, order: int, stop: bool) -> int:
        words = torch.tensor([order, stop])
        with _together():
            dist.all_reduce(words, dist.ReduceOp.MAX, self.orders)
        found, self.stopping = int(words[0]), bool(words[1])
        return found


ALONE = Processes()
"""A training by one process."""


class _Sum(torch.autograd.Function):
    """The sum over processes; the loss is that of all of them, so that gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        total = x.detach().clone(memory_format=torch.contiguous_format)
        with _together():
            dist.all_reduce(total, group=processes.sums)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradients[0], ctx.processes), None


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL raise nothing narrower; in brackets is where in their source
        said = re.sub(r"^\[[^\]]*\] ?", "", str(error)).partition(". ")[0].splitlines()[0]
        raise ProcessLost(f"another process is gone ({said})") from error
