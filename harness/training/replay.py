"""Updates that are replayed: what computes the gradient of a batch is recorded once and given to the GPU as a whole.

An update is thousands of small operations, each of which a host takes longer to launch than the GPU to compute. A CUDA
graph holds them all: the next batch is copied to where the first one was, and one launch gives its gradient. What is
recorded reads and writes fixed memory and decides nothing any more, so that it serves only batches of the same shape
whose labels are due at the same steps, and only what never waits for the device nor takes from the host what changes
with the batch.

Nothing is taken on trust: an update is computed plainly, then recorded, and the record is used from then on only if it
gave the same loss and gradient (CUDA Graphs in PyTorch: pytorch.org/blog/accelerating-pytorch-with-cuda-graphs).
"""

from __future__ import annotations

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

Work = Callable[[], Loss]
Recorder = Callable[[Work], tuple[Loss, Callable[[], None]]]
"""Records what `Work` sends to the device; gives the loss, in memory that the second part of it computes anew."""


def cuda_graph(work: Work) -> tuple[Loss, Callable[[], None]]:
    """Records a CUDA graph. Nothing of `work` is computed yet."""
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads may ask the driver for something meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            loss = work()
    except Exception:
        # torch's generator would take the recording to go on, and give no random numbers, until one has ended well.
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.zeros((), device="cuda")
        raise
    return loss, graph.replay


@dataclass(frozen=True)
class Record:
    """A recorded update: where its batch is read, and the loss and gradients that a replay computes anew."""

    inputs: Drawn
    loss: Loss
    gradients: tuple[Tensor | None, ...]
    replay: Callable[[], None]


@dataclass
class Replays:
    """Loss and gradient of a stage's updates: replayed where that gives what computing them does, else computed.

    `work` computes the loss of a batch and leaves the gradients in the parameters of `modules`, clipped. `records` has
    for each shape of a batch what was recorded, or None where it is not to be.
    """

    work: Callable[[Drawn], Loss]
    modules: Sequence[nn.Module]
    record: Recorder = cuda_graph
    records: dict[tuple[Any, ...], Record | None] = field(default_factory=dict)
    seen: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def loss(self, drawn: Drawn, begin: Callable[[], object]) -> Loss:
        """The loss of a batch, with its gradients in the parameters; `begin` sets the random state of the update."""
        shape = drawn.shape
        begin()
        found = self.records.get(shape)
        if found is not None:
            return self._replay(found, drawn)
        self.seen[shape] += 1
        if shape in self.records or self.seen[shape] <= WARM:
            return self.work(drawn)
        return self._recorded(drawn, shape, begin)

    def _recorded(self, drawn: Drawn, shape: tuple[Any, ...], begin: Callable[[], object]) -> Loss:
        """Computes an update plainly, and records it if it can be replayed."""
        buffers = [each for module in self.modules for each in module.buffers()]
        before = [each.clone() for each in buffers]  # running statistics: what is computed twice must count once
        with FromHost() as host:
            loss = self.work(drawn)
        computed, reported = self._gradients(), loss.reported.clone()
        self.records[shape] = None
        if host.found or sum(each is not None for each in self.records.values()) >= MOST:
            why = ", ".join(sorted(host.found)) or f"there are more than {MOST} shapes of a batch"
            LOG.info("updates are computed one operation after another: %s", why)
            return loss
        after = [each.clone() for each in buffers]
        why = "another gradient came of it"
        try:
            record = self._record(drawn)
            _put(buffers, before)
            begin()
            replayed = self._replay(record, drawn)
            if _same([reported, *computed], [replayed.reported, *record.gradients]):
                self.records[shape] = record
                LOG.info("updates are replayed as a whole from now on")
                return replayed
        except Exception as error:  # of the driver, of memory, of what a method may not do while it is recorded
            why = str(error).partition("\n")[0]
        LOG.warning("updates are computed one operation after another: to replay them failed (%s)", why)
        _put(buffers, after)
        for each, gradient in zip(self._parameters, computed, strict=True):
            each.grad = gradient
        return loss

    def _record(self, drawn: Drawn) -> Record:
        inputs = drawn.with_tensors({name: each.clone() for name, each in drawn.tensors.items()})
        loss, replay = self.record(lambda: self.work(inputs))
        return Record(inputs, loss, tuple(self._gradients()), replay)

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


class FromHost(TorchDispatchMode):
    """Notes, in `found`, operations that wait for the device, or take values from the host, as a replay would not."""

    WAIT = frozenset(
        {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        found = func(*args, **kwargs or {})
        devices = {each.device.type for each in _tensors((args, kwargs, found))}
        by_mask = name in ("index", "index_put", "index_put_") and any(
            each.dtype in (torch.bool, torch.uint8) for each in _tensors(args[1])
        )
        if name in self.WAIT or by_mask:
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
