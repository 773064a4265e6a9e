"""Copies of a module, many and fast: what `copy.deepcopy` gives, from bytes that were pickled once."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def copier(module: M) -> Callable[[], M]:
    """Makes a new copy of the module, as it is now, at each call.

    What cannot be pickled (a lambda, a class that no name leads to, tensors that share their memory) is left to
    `copy.deepcopy`, which raises RuntimeError for tensors that were computed.
    """
    try:
        pickled = _Pickled(module)
    except Exception:
        return lambda: copy.deepcopy(module)
    return pickled.copy


class _Pickled:
    def __init__(self, module: nn.Module) -> None:
        self.tensors: list[Tensor] = []
        self._numbers: dict[int, int] = {}
        self._storages: set[int] = set()
        file = io.BytesIO()
        pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
        pickler.persistent_id = self._number  # type: ignore[method-assign]
        pickler.dump(module)
        self.text = file.getvalue()
        self.tensors = [_copied(each) for each in self.tensors]

    def _number(self, value: Any) -> int | None:
        if not isinstance(value, Tensor):
            return None
        if id(value) not in self._numbers:
            if type(value) not in (Tensor, nn.Parameter) or not value.is_leaf or value.__dict__:
                raise pickle.PicklingError("a tensor that says itself how it is copied")
            storage = value.untyped_storage().data_ptr()
            if storage in self._storages:
                raise pickle.PicklingError("tensors that share their memory")
            if storage:
                self._storages.add(storage)
            self._numbers[id(value)] = len(self.tensors)
            self.tensors.append(value)
        return self._numbers[id(value)]

    def copy(self) -> Any:
        tensors: dict[int, Tensor] = {}

        def tensor(number: int) -> Tensor:
            if number not in tensors:
                tensors[number] = _copied(self.tensors[number])
            return tensors[number]

        unpickler = pickle.Unpickler(io.BytesIO(self.text))
        unpickler.persistent_load = tensor  # type: ignore[method-assign]
        return unpickler.load()


def _copied(tensor: Tensor) -> Tensor:
    """Equal values in the same places of memory of its own; strides are kept."""
    if tensor.is_contiguous() or tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size():
        data = tensor.detach().clone()
    else:
        return copy.deepcopy(tensor)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(data, tensor.requires_grad)
    return data.requires_grad_(tensor.requires_grad)
