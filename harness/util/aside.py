"""Calling a function in a process of its own, confined, for what it says of code that is not to run in this one."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.util.confinement import bubblewrap, confine, environment, import_paths, uncovered, wrapped
from harness.util.errors import HarnessError, RunError, UserError, VerificationError
from harness.util.option_names import in_shell, named_for_shell
from harness.util.shown_text import shown

_ERRORS: tuple[type[HarnessError], ...] = (UserError, VerificationError, RunError)
_LONGEST = 1 << 24


def aside(
    function: Callable[..., Any],
    *arguments: Any,
    hidden: Sequence[Path] = (),
    needed: Sequence[Path] = (),
    seconds: float = 600,
) -> Any:
    """What a function of a module gives for arguments that can be pickled, as JSON holds it.

    Nothing that comes back is unpickled. A HarnessError is raised again with its text, as one of its kind; RunError
    where the process ends, dies or takes longer than `seconds`. `hidden` folders are not found there, but for what is
    `needed` in them.
    """
    program = bubblewrap()
    wanted = [*needed, *map(Path, (sys.prefix, *import_paths()))]
    covered = uncovered(hidden, [each for each in wanted if each.exists()])
    with tempfile.TemporaryFile() as result:
        command = [sys.executable, "-m", "harness.util.aside", str(result.fileno()), "" if program else "confine"]
        process = subprocess.Popen(
            [*(wrapped(program, covered) if program else []), *command, *map(str, covered)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(result.fileno(),),
            env=environment(),
            start_new_session=True,
        )
        try:
            process.communicate(pickle.dumps((function, arguments, in_shell())), seconds)
        except subprocess.TimeoutExpired:
            raise RunError(f"the method gave no account of itself within {seconds:g} seconds") from None
        except BrokenPipeError:
            pass
        finally:
            process.kill()
            process.wait()
        result.seek(0)
        text = result.read(_LONGEST)
    try:
        kind, found = json.loads(text)
    except ValueError:
        raise RunError(f"the method ended the process (code {process.returncode}) that should look at it") from None
    for error in _ERRORS:
        if kind == error.__name__:
            raise error(shown(str(found)))
    return found


def main() -> None:
    """Reads a function and its arguments from the standard input, and writes what it gives to a file descriptor."""
    file, how, *hidden = sys.argv[1:]
    request = sys.stdin.buffer.read()
    if how:
        confine(hidden)
    try:
        function, arguments, shell = pickle.loads(request)
        with named_for_shell(shell):
            said: list[Any] = ["", function(*arguments)]
    except HarnessError as error:
        said = [next((each.__name__ for each in _ERRORS if isinstance(error, each)), RunError.__name__), str(error)]
    except BaseException as error:
        lines = str(error).strip().splitlines()
        said = [RunError.__name__, f"{type(error).__name__}: {lines[0] if lines else 'no message'}"]
    with open(int(file), "w", encoding="utf-8") as out:
        json.dump(said, out)


if __name__ == "__main__":
    main()
