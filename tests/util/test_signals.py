"""Handlers of signals that libraries put in the place of this program's."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from threading import Thread
from types import FrameType

import pytest

from harness.util.signals import sigterm_kept


def mine(number: int, frame: FrameType | None) -> None:
    pass


def of_a_library(number: int, frame: FrameType | None) -> None:
    sys.exit(number)


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, mine)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_library_that_takes_sigterm_gives_it_back() -> None:
    with sigterm_kept():
        signal.signal(signal.SIGTERM, of_a_library)
    assert signal.getsignal(signal.SIGTERM) is mine


def test_sigterm_while_the_library_has_it_is_an_interruption() -> None:
    def start() -> None:
        with sigterm_kept():
            signal.signal(signal.SIGTERM, of_a_library)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert signal.getsignal(signal.SIGTERM) is mine


def test_another_exit_stays_what_it_is() -> None:
    with pytest.raises(SystemExit, match="broken"), sigterm_kept():
        sys.exit("broken")


def test_a_thread_has_no_handlers_to_keep() -> None:
    passed = []

    def work() -> None:
        with sigterm_kept():
            passed.append(True)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert passed
