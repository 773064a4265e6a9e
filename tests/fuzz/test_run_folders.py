"""Run folders that were spoilt: the run goes on to the same scores, or is refused in words; never a traceback.

More cases on demand, as in test_yaml_files.py.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation import evaluate
from harness.records import provenance
from harness.records.parts import Code
from harness.runs import resolve
from harness.runs.folder import read_record, read_scores
from harness.testing import tiny_dataset
from harness.training.stages import RunningStage
from harness.training.state import Progress
from harness.util.errors import UserError
from harness.util.tensor_files import load_tensors
from tests.helpers import runs as tiny_runs
from tests.helpers.commands import ended, within_seconds
from tests.helpers.mutations import mutated_bytes, settings

pytestmark = pytest.mark.slow

NAMES = ("run.json", "checkpoint.safetensors", "weights.safetensors", "scores.npz", "record.json", "log.jsonl")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with a finished run in `whole/` and one that was stopped in `stopped/`."""
    folder = tiny_runs.written(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name))
        patch.setattr(provenance, "code", lambda: Code(revision=None, dirty=None))
        tiny_runs.save_every(0.0, patch.setattr)
        patch.setattr(evaluate, "BATCH", 2)
        assert told("--out", "whole")[0] == 0
        advance = RunningStage.advance

        def stopping(stage: RunningStage, progress: Progress) -> bool:
            updated = advance(stage, progress)
            if progress.updates == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            return updated

        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(RunningStage, "advance", stopping)
            assert told("--out", "stopped")[0] == 130
        yield folder


def told(*more: str) -> tuple[int, str]:
    """The exit code of a run and what it said on stderr."""
    code, _, err = ended(*tiny_runs.words("late", "--no-board", *more))
    return code, err


def only(folder: Path) -> Path:
    (found,) = [each for each in folder.glob("late/*") if each.is_dir()]
    return found


HOWS = ("gone", "folder", "other", "link")
"""What may stand in a file's place: nothing, a folder, another file of the run, a link that leads nowhere."""


def replaced(folder: Path, name: str, how: str, other: str = "") -> None:
    """Puts something else in a file's place; `other` is the file of the run that is meant by 'other'."""
    path = folder / name
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if how == "folder":
        path.mkdir()
    elif how == "other" and (folder / other).is_file():
        shutil.copy(folder / other, path)
    elif how == "link":
        path.symlink_to("nowhere")


@st.composite
def harms(draw: st.DrawFn) -> Callable[[Path], None]:
    """What is done to one or two files of a run folder."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2))
    hows = [draw(st.sampled_from(["bytes", "bytes", "bytes", *HOWS])) for _ in names]
    other, data = draw(st.sampled_from(NAMES)), draw(st.data())

    def harm(folder: Path) -> None:
        for name, how in zip(names, hows, strict=True):
            path = folder / name
            if how == "bytes":
                whole = path.read_bytes() if path.is_file() else b""
                replaced(folder, name, "gone")
                path.write_bytes(data.draw(mutated_bytes(whole)))
            else:
                replaced(folder, name, how, other)

    return harm


def spoilt(home: Path, which: str, harm: Callable[[Path], None]) -> Path:
    shutil.rmtree(home / "now", ignore_errors=True)
    shutil.copytree(home / which, home / "now")
    harm(only(home / "now"))
    return only(home / "now")


@settings(20)
@given(harms())
def test_a_spoilt_run_goes_on_to_the_same_scores_or_is_refused(home: Path, harm: Callable[[Path], None]) -> None:
    folder = spoilt(home, "stopped", harm)
    code, said = told("--out", "now", "--resume")
    assert code in (0, 1, 2), said
    if code == 0:
        for name in ("scores.npz", "weights.safetensors"):
            assert (folder / name).read_bytes() == (only(home / "whole") / name).read_bytes(), name
    else:
        assert said.rindex("harness: error: ") >= 0


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_no_file_any_more_is_reported_or_refused(home: Path, name: str, how: str) -> None:
    spoilt(home, "whole", lambda folder: replaced(folder, name, how, NAMES[NAMES.index(name) - 1]))
    code, said = told("--out", "now")
    assert code in (0, 1, 2), said
    assert code == 0 or "harness: error: " in said


@settings(30)
@given(harms())
def test_a_spoilt_finished_run_is_reported_or_refused(home: Path, harm: Callable[[Path], None]) -> None:
    spoilt(home, "whole", harm)
    code, said = told("--out", "now")
    assert code in (0, 1, 2), said
    assert code == 0 or "harness: error: " in said


READERS: dict[str, Callable[[Path], Any]] = {
    "record.json": lambda path: read_record(path.parent),
    "scores.npz": read_scores,
    "checkpoint.safetensors": load_tensors,
    "weights.safetensors": load_tensors,
}


@settings(150)
@given(st.sampled_from(sorted(READERS)), st.data())
def test_a_spoilt_file_is_read_or_refused(home: Path, name: str, data: st.DataObject) -> None:
    path = home / "one" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.draw(mutated_bytes((only(home / "whole") / name).read_bytes())))
    refused = None
    try:
        with within_seconds():
            READERS[name](path)
    except UserError as error:
        refused = str(error)
    assert refused is None or name in refused, "the error does not say which file is damaged"


@settings(150)
@given(st.sampled_from(["checkpoint.safetensors", "weights.safetensors"]), st.data())
def test_no_changed_tensor_is_ever_taken_for_what_was_written(home: Path, name: str, data: st.DataObject) -> None:
    original = only(home / "whole") / name
    path = home / "one" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data.draw(mutated_bytes(original.read_bytes())))
    try:
        tensors, header = load_tensors(path)
    except UserError:
        return
    if header:  # one without a header is somebody else's file
        written = load_tensors(original)
        assert header == written[1]
        assert tensors.keys() == written[0].keys()
        assert all(bool((tensors[each] == written[0][each]).all()) for each in tensors)
