"""Stopping between updates, never within one: Ctrl-C, SIGTERM and SIGHUP are noted and acted on at a safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAVING = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))
"""Signals that end a process, and that make it save and go on, where the platform has them."""


@dataclass
class Stop:
    """What the process was asked for by signals: to stop (`asked`), or to save and go on (`save`, by SIGUSR1)."""

    requested: bool = False
    save: bool = False

    def check(self) -> None:
        """Raises KeyboardInterrupt if a stop was asked for."""
        if self.requested:
            raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[Stop]:
    """Within the block SIGINT, SIGTERM and SIGHUP set `asked` (a second one interrupts at once), SIGUSR1 sets `save`.

    A signal that the process ignores stays ignored (SIGHUP under nohup). Outside the main thread Python allows no
    signal handlers, and nothing is deferred.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    def note_save(number: int, frame: FrameType | None) -> None:
        stop.save = True

    with _handled(dict.fromkeys(STOPPING, handle) | dict.fromkeys(SAVING, note_save)):
        yield stop


@contextmanager
def interrupting() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does."""
    with _handled(dict.fromkeys(STOPPING, _interrupt)):
        yield


@contextmanager
def nothing_to_save() -> Iterator[None]:
    """Within the block SIGUSR1 does nothing, where it would end the process; `deferred` inside acts on it."""
    with _handled(dict.fromkeys(SAVING, _ignore)):
        yield


@contextmanager
def sigterm_kept() -> Iterator[None]:
    """Around calls of a library that puts a handler of its own in SIGTERM's place, which exits with the number of it.

    Within the block such an exit is a KeyboardInterrupt, and after it the old handler is back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


@contextmanager
def _handled(handlers: Mapping[int, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.getsignal(number) for number in handlers}
    taken = {number: each for number, each in old.items() if each is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
