"""Options in messages: as flags to those who typed a command, as arguments to those who wrote a call."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness import cli
from harness.util.aside import aside
from harness.util.option_names import in_shell, named_for_shell, option, switch


def test_options_are_named_as_the_reader_writes_them() -> None:
    written = (
        option("test-episodes"),
        option("data", "stand-in"),
        option("run", "DIR"),
        option("time"),
        switch("resume"),
    )
    assert written == ("test_episodes", "data='stand-in'", "folder=DIR", "seconds", "resume=True")
    with named_for_shell():
        assert option("data", "stand-in") == "--data stand-in"
        assert switch("resume") == "--resume"
    assert not in_shell()


def test_the_same_error_names_a_flag_in_a_shell_and_an_argument_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "cifarfs_delay5", "--method", "count", "--data", "stand-in"]
    assert cli.main([*words, "--test-episodes", "2001"]) == 2
    assert "--test-episodes is 2001; the whole test of cifarfs_delay5 has 2000" in capsys.readouterr().err
    with pytest.raises(harness.UserError, match=r"^test_episodes is 2001; the whole test"):
        harness.run("cifarfs_delay5", "count", data="stand-in", test_episodes=2001)
    assert cli.main([*words, "--resume"]) == 2
    assert "leave --resume out to begin one" in capsys.readouterr().err
    with pytest.raises(harness.UserError, match="leave resume=True out to begin one"):
        harness.run("cifarfs_delay5", "count", data="stand-in", resume=True)


@pytest.mark.slow
def test_a_process_that_looks_at_a_method_names_options_as_this_one_does() -> None:
    assert aside(option, "data-root", "DIR") == "data_root=DIR"
    with named_for_shell():
        assert aside(option, "data-root", "DIR") == "--data-root DIR"
