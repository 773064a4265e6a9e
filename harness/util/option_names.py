"""Options in messages as the reader of the message writes them: `--resume` in a shell, `resume=True` in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_ARGUMENTS = {"time": "seconds", "run": "folder", "set": "options"}
"""Options whose argument in the Python API is not called like them."""

_in_shell = False


@contextmanager
def named_for_shell(shell: bool = True) -> Iterator[None]:
    """In the block, options are named as on the command line; elsewhere as arguments of the Python API.

    A process that works for another is given what `in_shell` is there.
    """
    global _in_shell
    before, _in_shell = _in_shell, shell
    try:
        yield
    finally:
        _in_shell = before


def in_shell() -> bool:
    """Whether messages are read by somebody who typed a command."""
    return _in_shell


def option(name: str, value: str = "") -> str:
    """An option with its value, if one is given: '--data stand-in' or "data='stand-in'".

    `name` is that of the command line without its dashes. A value in capitals, such as FILE, stands for the
    reader's own.
    """
    if _in_shell:
        return f"--{name} {value}".rstrip()
    argument = _ARGUMENTS.get(name, name.replace("-", "_"))
    return f"{argument}={value if value.isupper() else repr(value)}" if value else argument


def switch(name: str) -> str:
    """An option without a value: '--resume' or 'resume=True'."""
    return f"--{name}" if _in_shell else f"{name.replace('-', '_')}=True"
