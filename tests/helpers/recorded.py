"""What a CUDA graph does, on a CPU: the operations of an update, done again over the same memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from harness.training.objectives import Loss
from harness.training.replay import Recorder, Replays
from harness.training.stages import RunningStage

LOOKS = ("unsqueeze_", "squeeze_", "transpose_", "t_", "as_strided_", "detach_")
"""Operations that change how a tensor looks at its memory, and no memory."""


class Operations(TorchDispatchMode):
    """Keeps each operation with its arguments, what it gave, and whether gradients were on."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[bool, Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, given = func.overloadpacket.__name__, _as_they_are((tuple(args), dict(kwargs or {})))
        found = func(*args, **kwargs or {})
        if "empty" not in name and name not in LOOKS:
            self.done.append((torch.is_grad_enabled(), func, *given, _as_they_are(found)))
        return found

    def again(self) -> None:
        """Does them again, in order; each result goes to where the first one was."""
        for with_grad, func, args, kwargs, results in self.done:
            given = {_memory(each) for each in _tensors((args, kwargs))}
            # Below autograd, as they were seen; some return more where gradients are on.
            with torch._C._AutoDispatchBelowAutograd(), torch.set_grad_enabled(with_grad):
                for old, new in zip(_tensors(results), _tensors(func(*args, **kwargs)), strict=True):
                    if _memory(old) not in given:  # neither a view nor changed in place
                        old.copy_(new)


def recorder(work: Callable[[], Loss]) -> tuple[Loss, Callable[[], None]]:
    """As `harness.training.replay.CudaGraphs`, but `work` is computed meanwhile."""
    operations = Operations()
    with operations:
        loss = work()
    return loss, operations.again


def with_replays(monkeypatch: pytest.MonkeyPatch, record: Recorder = recorder) -> list[Replays]:
    """Has updates replayed, by whatever records them, on any device; what replays them is listed, a stage's each."""
    made: list[Replays] = []

    def replays(stage: RunningStage) -> Replays:
        if not (made and made[-1].work == stage.recorded):
            made.append(Replays(stage.recorded, stage.objective.trained, record))
        return made[-1]

    monkeypatch.setattr(RunningStage, "reads_late", property(lambda stage: stage.spec.until_loss is None))
    monkeypatch.setattr(RunningStage, "replays", property(replays))
    return made


def _as_they_are(values: Any) -> Any:
    """The same with tensors of their own over the same memory, whose shapes nobody changes."""
    return pytree.tree_map_only(Tensor, lambda each: each.detach(), values)


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(values) if isinstance(each, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
