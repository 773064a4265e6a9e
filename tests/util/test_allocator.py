"""Keeping freed memory is asked for where the C library knows how, and nowhere else."""

from __future__ import annotations

import ctypes
import sys

import pytest

from harness.util.allocator import keep_freed_memory


def test_it_is_granted_exactly_where_the_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    can = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "mallopt")
    assert keep_freed_memory() == can
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
