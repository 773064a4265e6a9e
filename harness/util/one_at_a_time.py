"""Calls that use what a process has only once: torch's generator, its modes and its number of threads."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.RLock()


def _anew() -> None:
    """A lock that nobody holds: in a forked process, the thread that held it is not there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_anew)


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """The function as it is, for which other threads of the process wait while one of them is in any of these.

    Side by side they would draw from one another's random numbers. Calls within a call, from a callback say, go on.
    """

    @functools.wraps(function)
    def call(*args: P.args, **named: P.kwargs) -> R:
        with _lock:
            return function(*args, **named)

    return call
