"""Updates that are replayed: what computes the gradient of a batch is recorded once and given to the GPU as a whole.

An update is thousands of small operations, each of which a host takes longer to launch than the GPU to compute. A CUDA
graph holds them all: the next batch is copied to where the first one was, and one launch gives its gradient. What is
recorded reads and writes fixed memory and decides nothing any more, so that it serves only batches of the same shape
whose labels are due at the same steps, and only what never waits for the device nor takes from the host what changes
with the batch (CUDA Graphs in PyTorch: pytorch.org/blog/accelerating-pytorch-with-cuda-graphs).

A record is compared with the same update computed plainly: when it is made, and again after 8, 64, 512, ... replays,
since a method may change with time what it computes. One that gives something else is dropped for good.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from harness.training.objectives import Drawn, Loss

LOG = logging.getLogger(__name__)

WARM = 2
"""Updates of a shape before the one that is recorded: libraries choose and load their kernels in these."""

MOST = 8
"""Shapes of which updates are recorded at most; each keeps the memory of a whole update."""

TOLERANCE = 0.01
"""By how much the loss, and the gradient (by the norm of the difference), may differ from those computed plainly, as a
share: sums of many numbers in another order."""

_WAITING = frozenset(
    {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}
)

Work = Callable[[], Loss]
Recorder = Callable[[Work], tuple[Loss, Callable[[], None]]]
"""Records what `Work` sends to the device; gives the loss, in memory that the second part of it computes anew."""


@dataclass(frozen=True)
class CudaGraphs:
    """Records CUDA graphs on a GPU; nothing of `Work` is computed meanwhile."""

    device: torch.device

    def __call__(self, work: Work) -> tuple[Loss, Callable[[], None]]:
        with torch.cuda.device(self.device):
            gc.collect()  # a graph that is freed while another is recorded would spoil that
            graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            why: Exception | None = None
            try:
                # Other threads may ask the driver for something meanwhile.
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    try:
                        return work(), graph.replay
                    except Exception as error:
                        why = error
                        raise
            except Exception as error:
                torch.cuda.set_stream(stream)  # torch leaves that of the recording current
                self._recover()
                raise why or error from None  # what spoiled it, rather than that it was spoilt

    def _recover(self) -> None:
        """Records something that cannot fail: where torch's generator has one state for all recordings, it would
        otherwise take the one that failed to go on, and give no random numbers."""
        graph = torch.cuda.CUDAGraph()
        with contextlib.suppress(RuntimeError), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            torch.zeros((), device=self.device)


@dataclass
class Record:
    """A recorded update: where its batch is read, and the loss and gradients that a replay computes anew.

    `used` counts its replays, and `checked_at` is the number of them after which it is next compared.
    """

    inputs: Drawn
    loss: Loss
    gradients: list[Tensor | None]
    replay: Callable[[], None]
    used: int = 0
    checked_at: int = 8


@dataclass
class Replays:
    """Loss and gradient of a stage's updates: replayed where that gives what computing them does, else computed.

    `work` computes the loss of a batch and leaves the gradients in the parameters of `modules`, clipped. `records` has
    for each shape of a batch what was recorded, or None where updates are computed. What is found is said once.
    """

    work: Callable[[Drawn], Loss]
    modules: Sequence[nn.Module]
    record: Recorder
    records: dict[tuple[Any, ...], Record | None] = field(default_factory=dict)
    seen: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    said: set[str] = field(default_factory=set)

    def loss(self, drawn: Drawn, begin: Callable[[], object]) -> Loss:
        """The loss of a batch, with its gradients in the parameters; `begin` sets the random state of the update."""
        shape = drawn.shape
        found = self.records.get(shape)
        if found is not None and found.used < found.checked_at:
            found.used += 1
            begin()
            return self._replay(found, drawn)
        self.seen[shape] += 1
        if (found is None and shape in self.records) or self.seen[shape] <= WARM:
            begin()
            return self.work(drawn)
        return self._compared(drawn, shape, begin, found)

    def release(self) -> None:
        """Gives back the memory of what was recorded, which is recorded again when it is next asked for."""
        self.records = {shape: None for shape, each in self.records.items() if each is None}

    def _compared(
        self, drawn: Drawn, shape: tuple[Any, ...], begin: Callable[[], object], record: Record | None
    ) -> Loss:
        """Computes an update plainly, and replays it as well, having recorded it first if it is not: if that gives the
        same, the record is used from then on, and otherwise never more."""
        buffers = [each for module in self.modules for each in module.buffers()]
        before = [each.clone() for each in buffers]  # running statistics: what is computed twice must count once
        begin()
        with FromHost() as host:
            loss = self.work(drawn)
        computed, reported = self._gradients(), loss.reported.clone()
        self.records[shape] = None
        if host.found or sum(each is not None for each in self.records.values()) >= MOST:
            why = ", ".join(sorted(host.found)) or f"there are more than {MOST} shapes of a batch"
            self._say(logging.INFO, f"updates are computed one operation after another: {why}")
            return loss
        after = [each.clone() for each in buffers]
        why = "another gradient came of it"
        try:
            record = record or self._recorded(drawn)
            _put(buffers, before)
            begin()
            _forget([record.loss.reported, *record.gradients])
            replayed = self._replay(record, drawn)
            if _same([reported, *computed], [replayed.reported, *record.gradients]):
                record.checked_at = 8 * max(1, record.used)
                self.records[shape] = record
                self._say(logging.INFO, "updates are replayed as a whole from now on")
                return replayed
        except Exception as error:  # of the driver, of memory, of what a method may not do while it is recorded
            why = str(error).partition("\n")[0]
        self._say(logging.WARNING, f"updates are computed one operation after another: to replay them failed ({why})")
        _put(buffers, after)
        for each, gradient in zip(self._parameters, computed, strict=True):
            each.grad = gradient
        return loss

    def _recorded(self, drawn: Drawn) -> Record:
        inputs = drawn.with_tensors({name: each.clone() for name, each in drawn.tensors.items()})
        loss, replay = self.record(lambda: self.work(inputs))
        return Record(inputs, loss, self._gradients(), replay)

    def _replay(self, record: Record, drawn: Drawn) -> Loss:
        own = drawn.tensors
        for name, each in record.inputs.tensors.items():
            each.copy_(own[name])
        record.replay()
        for each, gradient in zip(self._parameters, record.gradients, strict=True):
            each.grad = gradient
        return replace(record.loss, reported=record.loss.reported.clone())  # it is read when the next one is computed

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return list(dict.fromkeys(each for module in self.modules for each in module.parameters()))

    def _gradients(self) -> list[Tensor | None]:
        return [each.grad for each in self._parameters]

    def _say(self, level: int, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            LOG.log(level, text)


def waits(name: str, args: Sequence[Any]) -> bool:
    """Whether an operation of that name (`aten.<name>`) makes the host wait for the device: its result, or its shape,
    depends on values."""
    by_mask = name in ("index", "index_put", "index_put_") and any(
        each.dtype in (torch.bool, torch.uint8) for each in _tensors(args[1])
    )
    return name in _WAITING or by_mask


class FromHost(TorchDispatchMode):
    """Notes, in `found`, operations that wait for the device, or take values from the host, as a replay would not."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        found = func(*args, **kwargs or {})
        devices = {each.device.type for each in _tensors((args, kwargs, found))}
        if waits(name, args):
            self.found.add(f"{name} waits for the device")
        elif name == "lift_fresh" or len(devices) > 1:
            self.found.add(f"{name} copies from the host")
        return found


def _tensors(values: Any) -> Iterable[Tensor]:
    return (each for each in pytree.tree_leaves(values) if isinstance(each, Tensor))


@torch.no_grad()
def _put(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for each, value in zip(tensors, values, strict=True):
        each.copy_(value)


@torch.no_grad()
def _forget(tensors: Sequence[Tensor | None]) -> None:
    """What a record gave before is no number, so that a replay that computes nothing gives none."""
    for each in tensors:
        if each is not None:
            each.fill_(torch.nan)


@torch.no_grad()
def _same(computed: Sequence[Tensor | None], replayed: Sequence[Tensor | None]) -> bool:
    """Whether losses and gradients agree: the loss by itself, all gradients together."""
    if [each is None for each in computed] != [each is None for each in replayed]:
        return False
    pairs = [(a, b) for a, b in zip(computed, replayed, strict=True) if a is not None and b is not None]
    off = [((a - b).norm(), a.norm()) for a, b in pairs]
    losses, gradients = off[:1], off[1:]
    for each in (losses, gradients):
        difference, size = (torch.stack(list(norms)).norm().item() for norms in zip(*each, strict=True))
        if not difference <= TOLERANCE * size:
            return False
    return True
