"""Stopping between updates, never within one: Ctrl-C and SIGTERM are noted and acted on at a safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether a stop was asked for."""

    asked: bool = False

    def check(self) -> None:
        """Raises KeyboardInterrupt if a stop was asked for."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[Stop]:
    """Within the block SIGINT and SIGTERM set `asked`; a second one interrupts at once.

    Outside the main thread Python allows no signal handlers, and nothing is deferred.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
