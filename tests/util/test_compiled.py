"""C functions compiled where there is a compiler, and done without where there is none."""

from __future__ import annotations

import shutil

import pytest

from harness.util.compiled import compiled

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@needs_compiler
def test_a_function_is_compiled_once() -> None:
    source = "int doubled(int number) { return 2 * number; }"
    library = compiled(source)
    assert library is not None
    assert library.doubled(21) == 42
    assert compiled(source) is library


def test_without_a_compiler_nothing_is_compiled_and_nothing_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert compiled("int none;") is None
    assert not caplog.records


@needs_compiler
def test_a_compiler_that_fails_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert compiled("this is no C;") is None
    assert len(caplog.records) == 1
    assert "the results are the same without it" in caplog.text
