"""Copies to a device and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.util import device_copy
from harness.util.device_copy import OnItsWay, packed_to_device, to_host

CPU = torch.device("cpu")


def test_arrays_of_integers_go_by_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []
    plain = device_copy.to_device

    def copied(array: np.ndarray, device: torch.device) -> torch.Tensor:
        copies.append(array.size)
        return plain(array, device)

    monkeypatch.setattr(device_copy, "to_device", copied)
    arrays: list[np.ndarray] = [
        np.arange(6).reshape(2, 3).T,
        np.array([[2**32 - 1]], np.uint64),
        np.array([1, -1], np.int8),
    ]
    found = packed_to_device(arrays, CPU)
    assert copies == [9]
    for tensor, array in zip(found, arrays, strict=True):
        assert tensor.dtype == torch.int64
        assert tensor.is_contiguous()
        assert tensor.tolist() == array.tolist()


def test_a_number_on_its_way_is_read_once_it_was_copied() -> None:
    number = torch.zeros(())

    class Copied:
        def synchronize(self) -> None:
            number.fill_(2.5)

    assert OnItsWay(number, Copied()).read() == 2.5  # type: ignore[arg-type]


def test_a_number_of_the_host_needs_no_copy_and_no_graph() -> None:
    number = torch.ones((), requires_grad=True) * 3
    found = to_host(number)
    assert found.read() == 3
    assert not found.number.requires_grad
