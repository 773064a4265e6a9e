"""Commands run in this process, for tests that try very many: how they end, what they say, and that they do end."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

from harness import cli

CODES = (0, 1, 2, 3, 130, 141)
"""How a command may end: done, failed, wrong use, not verified, stopped, its reader gone."""

_BUSY, _IDLE = 10.0, 900.0  # seconds: of work, and by the clock, which a machine with other work makes longer


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def ended(*words: str) -> Ended:
    """How a command ended. It shows no traceback, raises nothing, and neither works too long nor waits for ever."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), within_seconds():
        code = cli.main(list(words))
    assert code in CODES
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return Ended(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def within_seconds(busy: float = _BUSY, idle: float = _IDLE) -> Iterator[None]:
    """Raises AssertionError in the block when it has worked for too long, or only waited."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it hangs: {signal.Signals(number).name}")

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, busy), (signal.ITIMER_REAL, signal.SIGALRM, idle))
    before = [(number, signal.signal(number, hangs)) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in before:
            signal.signal(number, handler)
