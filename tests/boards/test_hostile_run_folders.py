"""Files of a run folder that no run wrote: each command refuses them in one sentence, or goes on without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import cli
from harness.runs.folder import NOTED, RECORD, TRAINING_LOG
from tests.helpers.commands import ended, within_seconds
from tests.helpers.submissions import submitted

pytestmark = pytest.mark.usefixtures("tiny_board")

HOSTILE = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"identity": ' * 5000 + b"1" + b"}" * 5000,
    "deep identity": b'{"status": "done", "identity": ' + b'{"a": ' * 400 + b"1" + b"}" * 401,
    "NaN": b'{"status": "done", "identity": {"seed": NaN}, "seed": NaN, "loss": NaN, "event": "stage"}',
    "huge number": b'{"status": "done", "identity": {"seed": ' + b"9" * 5000 + b'}, "seed": 1e999}',
    "many digits": b'{"event": "stage", "stage": "a", "updates": ' + b"9" * 400 + b', "episodes": 1, "seconds": 1e999}',
    "other types": b'{"status": [], "identity": [[1]], "record": {}, "event": 3}',
    "half a character": b'{"status": "\\ud800", "identity": {"\\ud800": "\\ud800"}, "at": "\\ud800"}',
    "no text": b"\xff\xfe\x00",
    "no object": b"7",
    "large": b" " * (2**24 + 1),
}


@pytest.mark.parametrize("name", [NOTED, RECORD, TRAINING_LOG])
@pytest.mark.parametrize("content", HOSTILE)
def test_it_is_refused_in_a_sentence(name: str, content: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / name).write_bytes(HOSTILE[content])
    if name != TRAINING_LOG:
        with within_seconds():
            assert submitted(run, "--dry-run") in {2, 3}
        said = capsys.readouterr().err
        assert said.count("harness: error: ") == 1
        assert len(said) < 5000
    code, out, err = ended("report", str(run), "--out", "pages")
    assert code in (0, 2), out + err
    assert "Traceback" not in out + err


@pytest.mark.skipif(os.name != "posix", reason="no such files")
@pytest.mark.parametrize("name", [NOTED, RECORD, TRAINING_LOG])
def test_a_pipe_or_a_device_is_not_waited_for(name: str, run: Path) -> None:
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (run / name).unlink()
        make(run / name)
        with within_seconds():
            assert name == TRAINING_LOG or submitted(run, "--dry-run") == 2
            assert cli.main(["report", str(run), "--out", "pages"]) in (0, 2)
