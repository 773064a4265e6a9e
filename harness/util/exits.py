"""Calls that end the process without a word, `os._exit` above all, as errors: they come from code of the user's.

Such a call would end a run, a check or any other command with the exit code 0 and no record.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_ENDING = ("_exit", "execv", "execve")  # all others of os.exec* call one of the last two


class ProcessEnd(SystemExit):
    """Raised in place of ending this process; `call` is what was called."""

    def __init__(self, call: str, *given: Any) -> None:
        super().__init__(*given[:1])
        self.call = call

    def __str__(self) -> str:
        return f"{exit_call(self)} was called"


@contextmanager
def exits_raised() -> Iterator[None]:
    """Within the block `os._exit` and `os.exec*` raise `ProcessEnd`, where this process would end.

    Processes forked from it end as ever. Another thread ends itself alone, as by `sys.exit`. What ends a process
    otherwise is not caught, but leaves an exit code that is not 0: `os.abort`, signals and faults.
    """
    owner = os.getpid(), threading.get_ident()
    originals = {name: getattr(os, name) for name in _ENDING}
    for name, original in originals.items():
        setattr(os, name, _raising(f"os.{name}", original, owner))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def exit_call(error: SystemExit) -> str:
    """The call that raised this, as in 'sys.exit(0)'."""
    return f"{error.call if isinstance(error, ProcessEnd) else 'sys.exit'}({error.code!r})"


def _raising(call: str, original: Callable[..., NoReturn], owner: tuple[int, int]) -> Callable[..., NoReturn]:
    def ending(*given: Any, **named: Any) -> NoReturn:
        if os.getpid() != owner[0]:
            original(*given, **named)
        if threading.get_ident() != owner[1]:
            raise SystemExit(*given[:1])
        raise ProcessEnd(call, *given, *named.values())

    return ending
