"""Calls that would end the process without a word."""

from __future__ import annotations

import os
import threading

import pytest

from harness.util.exits import ProcessEnd, exit_call, exits_raised


def test_what_ends_the_process_is_an_error_within_the_block_and_not_after_it() -> None:
    originals = os._exit, os.execv, os.execve
    with exits_raised(), exits_raised():
        with pytest.raises(ProcessEnd) as caught:
            os._exit(0)
        assert (str(caught.value), exit_call(caught.value)) == ("os._exit(0) was called", "os._exit(0)")
        for end in (lambda: os.execvp("true", ["true"]), lambda: os.execl("/bin/true", "true")):
            with pytest.raises(ProcessEnd, match=r"os\.execv"):
                end()
    assert (os._exit, os.execv, os.execve) == originals
    assert exit_call(SystemExit(3)) == "sys.exit(3)"


def test_a_thread_ends_itself_alone() -> None:
    raised: list[type[BaseException]] = []

    def ends() -> None:
        try:
            os._exit(0)
        except SystemExit as error:
            raised.append(type(error))

    with exits_raised():
        thread = threading.Thread(target=ends)
        thread.start()
        thread.join()
    assert raised == [SystemExit]  # which ends a thread without a word; in the main one it is ProcessEnd


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12 on
@pytest.mark.parametrize("how", ["_exit", "execvp"])
def test_a_forked_process_ends_as_ever(how: str) -> None:
    with exits_raised():
        child = os.fork()
        if not child:
            os._exit(7) if how == "_exit" else os.execvp("sh", ["sh", "-c", "exit 7"])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
