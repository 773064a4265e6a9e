"""Copies of modules for checks: equal to what `copy.deepcopy` gives, whatever the module holds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.check.copies import copier


class Holder(nn.Module):
    """A module with one attribute, `held`."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held


def _tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    return net


def _channels_last(conv: nn.Conv2d) -> nn.Conv2d:
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


def _views() -> nn.Module:
    whole = torch.arange(6.0)
    return Holder([whole[:3], whole[3:]])


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(3, 4, 2),
        nn.Sequential(_channels_last(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)).eval(),
        _tied(),
        _views(),
        Holder({"a": torch.ones(2, dtype=torch.int64), "b": (torch.zeros(0), None)}),
        Holder(torch.arange(12.0).view(3, 4)[:, ::2]),
        Holder(nn.Parameter(torch.ones(2), requires_grad=False)),
        Holder(lambda x: x + 1),
    ],
    ids=["lstm", "channels_last", "tied", "views", "containers", "strided", "frozen", "lambda"],
)
def test_a_copy_is_that_of_deepcopy(module: nn.Module) -> None:
    make = copier(module)
    one, other, expected = make(), make(), copy.deepcopy(module)
    assert one.training == module.training
    assert _described(one) == _described(other) == _described(expected)
    for mine, yours in zip(_tensors(one), _tensors(other), strict=True):
        assert mine is not yours
        assert not mine.numel() or mine.untyped_storage().data_ptr() != yours.untyped_storage().data_ptr()


def test_a_copy_is_of_the_moment_at_which_it_was_asked_for() -> None:
    module = nn.Linear(2, 2)
    make, before = copier(module), module.weight.detach().clone()
    with torch.no_grad():
        module.weight += 1
        make().weight += 1
    assert torch.equal(make().weight, before)


def test_what_was_computed_is_refused_as_by_deepcopy() -> None:
    module = Holder(nn.Parameter(torch.ones(2)) * 2)
    with pytest.raises(RuntimeError, match="graph leaves"):
        copier(module)()


def _tensors(module: nn.Module) -> list[Tensor]:
    held: list[Tensor] = [*module.parameters(), *module.buffers()]
    pending = [getattr(module, "held", None)]
    while pending:
        value = pending.pop()
        if isinstance(value, Tensor):
            held.append(value)
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
    return held


def _described(module: nn.Module) -> list[Any]:
    """Values, strides, classes, and which tensors are the same or share their memory."""
    tensors = _tensors(module)
    storages = [each.untyped_storage().data_ptr() for each in tensors]
    return [
        (
            *(type(each), each.tolist(), each.stride(), each.dtype, each.requires_grad),
            [other is each for other in tensors],
            [bool(storage) and other == storage for other in storages],
        )
        for each, storage in zip(tensors, storages, strict=True)
    ]
