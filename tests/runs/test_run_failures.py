"""Runs that cannot go on: a clear error, the last good checkpoint kept, what to do, and the same bits once resumed."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from harness import cli
from harness.data.open_dataset import load_dataset
from harness.evaluation import evaluate
from harness.runs import resolve, run
from harness.testing import tiny_dataset
from harness.training.objectives import Drawn, EpisodesObjective, Loss
from harness.training.stages import RunningStage
from harness.training.state import Progress
from harness.util.tensor_files import load_tensors
from tests.helpers import runs as tiny_runs
from tests.helpers.own_images import image_folder
from tests.helpers.runs import run_folder, words

BIRDS = """\
kind: delayed_label
title: birds
dataset:
  name: garden_birds
  folder: photos/birds
  size: 16
  classes: {train: [robin, wren, kite], validation: [owl, rook, crow], test: [jay, tit, lark]}
episode: {ways: 2, presentations: 3, label_delay: 2}
scoring: {shots: [1, 2], test_episodes: 5}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed run of the protocol 'late'."""
    folder = tiny_runs.written(tmp_path_factory.mktemp("whole"))
    with pytest.MonkeyPatch.context() as patch:
        tiny(patch, folder)
        assert cli.main(words("late")) == 0
    return run_folder(folder)


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny(monkeypatch, tiny_runs.written(tmp_path))


def tiny(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Runs in `folder` are on random pixels, and save a checkpoint after every update."""
    patch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name))
    tiny_runs.save_every(0.0, patch.setattr)
    patch.setattr(evaluate, "BATCH", 2)
    patch.chdir(folder)


def failing(function: Callable[..., Any], at: int, fail: Callable[[], object]) -> Callable[..., Any]:
    """The function, which fails at its n-th call."""
    calls = 0

    def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            fail()
        return function(*args, **options)

    return wrapped


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said as the error, in one line."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert "harness: error:" in text
    return " ".join(text[text.rindex("harness: error:") :].split())


def updates() -> int:
    """How many updates the checkpoint has behind it; its weights are finite."""
    tensors, header = load_tensors(run_folder() / "checkpoint.safetensors")
    assert all(each.isfinite().all() for each in tensors.values())
    return int(header["progress"]["updates"])


def assert_goes_on(whole: Path) -> None:
    """With --resume the run ends as the undisturbed one."""
    assert cli.main(words("late", "--resume")) == 0
    for name in ("scores.npz", "weights.safetensors"):
        assert (run_folder() / name).read_bytes() == (whole / name).read_bytes(), name
    assert {each.name for each in run_folder().iterdir()} == {each.name for each in whole.iterdir()}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can become larger than this: what is nearest to a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


@pytest.mark.slow
def test_a_disk_that_is_full_before_the_first_checkpoint(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with largest_file(4000):
        assert cli.main(words("late")) == 1
    message = said(capsys)
    assert "File too large" in message
    assert "No checkpoint was written yet" in message
    assert "Make room" in message
    assert "--resume" in message
    assert_goes_on(whole)


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_in_rust() -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name", "fail", "at", "done"),
    [
        (safetensors.torch, "save_file", no_space_in_rust, 4, 3),
        (safetensors.torch, "save_file", no_space_in_rust, tiny_runs.UPDATES + 1, tiny_runs.UPDATES),
        (np, "savez_compressed", no_space, 1, tiny_runs.UPDATES),
        (Path, "write_text", no_space, 3, tiny_runs.UPDATES),
    ],
    ids=["checkpoint", "weights", "scores", "record"],
)
def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_the_run_goes_on(
    where: Any,
    name: str,
    fail: Callable[[], None],
    at: int,
    done: int,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(where, name, failing(getattr(where, name), at, fail))
        assert cli.main(words("late")) == 1
    message = said(capsys)
    assert "No space left on device" in message
    assert "The last good checkpoint is kept" in message
    assert "--resume" in message
    assert updates() == done
    assert_goes_on(whole)


def test_a_full_disk_while_the_failure_itself_is_noted(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, full = Path.write_text, False

    def until_full(path: Path, *rest: Any, **options: Any) -> int:
        return no_space() if full else write(path, *rest, **options)  # type: ignore[func-returns-value,return-value]

    def now_full() -> None:
        nonlocal full
        full = True
        no_space()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", until_full)
        patch.setattr(np, "savez_compressed", failing(np.savez_compressed, 1, now_full))
        assert cli.main(words("late")) == 1
    assert "scores.npz: No space left on device. The last good checkpoint is kept" in said(capsys)
    assert_goes_on(whole)


def test_a_run_folder_that_cannot_be_made_says_where_else(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("mine")
    assert cli.main(words("late", "--out", "taken")) == 2
    message = said(capsys)
    assert "the run folder taken/late/" in message
    assert "--out DIR" in message
    assert Path("taken").read_text() == "mine"


@pytest.mark.parametrize("longest", ["name", "path"])
def test_a_run_folder_whose_name_is_too_long_is_said_before_training(
    longest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder's own name, or that of a file which is only written later."""
    folder = "x" * 255 if longest == "name" else "/".join(["x" * 199] * 20 + ["y" * 70])
    assert cli.main(words("late", "--no-board", "--run", folder)) == 2
    assert "File name too long" in said(capsys)
    assert not Path(folder[:255]).is_dir()
    assert not list(Path().rglob("run.json")), "nothing was begun"


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_a_run_folder_and_its_files_have_the_modes_of_the_umask(mask: int) -> None:
    before = os.umask(mask)
    try:
        assert cli.main(words("late")) == 0
    finally:
        os.umask(before)
    files = [each for each in (*run_folder().iterdir(), *Path("leaderboards").rglob("*")) if each.suffix != ".lock"]
    found = {each.name: each.stat().st_mode & 0o777 for each in files if each.is_file()}
    assert {"weights.safetensors", "checkpoint.safetensors", "record.json", "run.json"} <= found.keys()
    assert found == dict.fromkeys(found, 0o666 & ~mask)
    folders = [run_folder(), run_folder().parent, Path("runs"), Path("leaderboards")]
    assert [each.stat().st_mode & 0o777 for each in folders] == [0o777 & ~mask] * 4


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_says_where_else(capsys: pytest.CaptureFixture[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    assert cli.main(words("late", "--out", "locked")) == 2
    assert "Permission denied. Choose another place with --out DIR" in said(capsys)


def test_a_run_folder_that_becomes_read_only_keeps_its_checkpoint(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused() -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", failing(Path.touch, 7, refused))
        assert cli.main(words("late")) in (1, 2)
    message = said(capsys)
    assert "Read-only file system" in message
    assert "--resume" in message
    assert updates() == 3
    assert_goes_on(whole)


def test_a_board_that_cannot_be_written_is_said_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    Path("boards").write_text("mine")
    assert cli.main(words("late", "--boards", "boards")) == 2
    assert "'boards/late.jsonl.lock' cannot be written" in said(capsys)
    assert not Path("runs").exists(), "it is said before anything is trained"
    assert Path("boards").read_text() == "mine"


def test_a_board_that_cannot_be_written_any_more_does_not_cost_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words("late", "--no-board")) == 0
    weights = run_folder() / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert cli.main(words("late", "--boards", "others")) == 0
    assert weights.stat().st_mtime_ns == before, "the finished run is published, not run again"
    assert Path("others/late.jsonl").is_file()


def interrupted(update: int, then: Callable[[], object]) -> Callable[..., Any]:
    """`RunningStage.advance`, before whose n-th call something happens."""
    return failing(RunningStage.advance, update, then)


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)  # to this thread, and now


def on_birds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a run on an image folder in the working directory."""
    monkeypatch.setattr(resolve, "load_dataset", load_dataset)
    image_folder(Path("photos/birds"))
    Path("late.yaml").write_text(BIRDS)
    return words("late")


@pytest.mark.slow
def test_data_that_vanish_between_two_sessions_are_named_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = on_birds(monkeypatch)
    assert cli.main([*command, "--out", "whole", "--no-board"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(RunningStage, "advance", interrupted(4, ctrl_c))
        assert cli.main(command) == 130
    assert "--resume" in capsys.readouterr().err
    checkpoint = (run_folder() / "checkpoint.safetensors").read_bytes()
    Path("photos").rename("moved")
    assert cli.main([*command, "--resume"]) == 2
    assert "photos/birds" in said(capsys)
    assert (run_folder() / "checkpoint.safetensors").read_bytes() == checkpoint
    Path("moved").rename("photos")
    shutil.rmtree("cache")
    assert cli.main([*command, "--resume"]) == 0
    (whole,) = [each for each in Path("whole/late").iterdir() if each.is_dir()]
    for name in ("scores.npz", "weights.safetensors"):
        assert (run_folder() / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_data_that_vanish_while_a_run_is_going_on_do_not_disturb_it(monkeypatch: pytest.MonkeyPatch) -> None:
    command = on_birds(monkeypatch)
    assert cli.main([*command, "--out", "whole", "--no-board"]) == 0

    def vanish() -> None:
        shutil.rmtree("cache")
        shutil.rmtree("photos")

    monkeypatch.setattr(RunningStage, "advance", interrupted(4, vanish))
    assert cli.main(command) == 0
    (whole,) = [each for each in Path("whole/late").iterdir() if each.is_dir()]
    assert (run_folder() / "scores.npz").read_bytes() == (whole / "scores.npz").read_bytes()


def cuda() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of ...")


def cpu() -> None:
    torch.empty(2**55)


def numpy() -> None:
    np.empty(2**55)


@pytest.mark.slow
@pytest.mark.parametrize("fail", [cuda, cpu, numpy])
@pytest.mark.parametrize(("name", "done"), [("advance", 3), ("evaluate", tiny_runs.UPDATES)])
def test_no_memory_left(
    fail: Callable[[], None],
    name: str,
    done: int,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where, at = (RunningStage, 4) if name == "advance" else (run, 1)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, failing(getattr(where, name), at, fail))
        assert cli.main(words("late")) == 1
    message = said(capsys)
    assert message.startswith("harness: error: out of memory: ")
    assert "llocate" in message
    for advice in ("The last good checkpoint is kept", "--resume", "a smaller --batch", "fewer ways", "--test-ep"):
        assert advice in message
    assert json.loads((run_folder() / "run.json").read_text())["status"] == "failed"
    assert updates() == done
    assert_goes_on(whole)


def test_another_error_of_torch_is_not_called_a_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RunningStage, "advance", interrupted(2, lambda: torch.ones(2) @ torch.ones(3)))
    assert cli.main(words("late")) == 1
    assert said(capsys).startswith("harness: error: RuntimeError: inconsistent tensor size")


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = EpisodesObjective.loss

    def diverging(objective: EpisodesObjective, drawn: Drawn) -> Loss:
        """In the stage 'all': what comes before has other objectives."""
        loss = plain(objective, drawn)
        return replace(loss, minimised=loss.minimised * math.nan, reported=loss.reported * math.nan)

    with monkeypatch.context() as patch:
        patch.setattr(EpisodesObjective, "loss", diverging)
        assert cli.main(words("late")) == 1
    message = said(capsys)
    assert "the training loss is nan at update 5 (stage 'all', 10 episodes)" in message
    assert f"the last good checkpoint is {run_folder()}/checkpoint.safetensors" in message
    assert "lower lr" in message
    assert updates() == 5
    assert_goes_on(whole)


def test_weights_that_are_no_numbers_never_take_the_place_of_a_good_checkpoint(
    whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss of the last good weights is finite, its gradient is not."""
    advance = RunningStage.advance

    def exploding(stage: RunningStage, progress: Progress) -> bool:
        updated = advance(stage, progress)
        if progress.updates == 6:
            next(stage.training.method.parameters()).data.fill_(float("nan"))
        return updated

    with monkeypatch.context() as patch:
        patch.setattr(RunningStage, "advance", exploding)
        assert cli.main(words("late")) == 1
    message = said(capsys)
    assert "a weight is no longer a finite number after update 6" in message
    assert "lower lr" in message
    assert updates() == 5
    assert_goes_on(whole)


@pytest.mark.parametrize("call", [3, 4], ids=["in the last validation", "while scoring"])
def test_ctrl_c_after_training_says_how_to_go_on(
    call: int, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "score_batch", failing(evaluate.score_batch, call, ctrl_c))
        assert cli.main(words("late")) == 130
    assert "stopped; go on with: harness" in (message := capsys.readouterr().err)
    assert message.rstrip().endswith("--resume")
    assert json.loads((run_folder() / "run.json").read_text())["status"] == "interrupted"
    assert_goes_on(whole)


EXITS = """\
import os, sys
from harness import Method
{first}

class Exits(Method):
    kinds = ("online_few_shot", "delayed_label")

    def __init__(self, task, **options):
        super().__init__(task)

    def start(self, episodes):
        {ends}
"""


@pytest.mark.parametrize(
    "ends", ["sys.exit(0)", "sys.exit()", "sys.exit('enough\\x1b[31m')", "os._exit(0)", "os.execl('/bin/true', 'true')"]
)
def test_a_method_that_ends_the_process_has_failed(
    ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one with options of any name, of which it is given none."""
    monkeypatch.chdir(tiny_runs.written(tmp_path))
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name))
    Path("exits.py").write_text(EXITS.format(first="", ends=ends))
    command = ["run", "late.yaml", "--method", "exits.py:Exits", "--budget", "smoke", "--no-board"]
    assert cli.main([*command, "--cache", "cache"]) == 1
    call = ends.partition("(")[0].replace("execl", "execv")
    assert f"Exits ended the run: it called {call}(" in capsys.readouterr().err
    assert cli.main(["check", "exits.py:Exits"]) == 3
    out = capsys.readouterr().out
    assert ("raised SystemExit" if call == "sys.exit" else f"raised ProcessEnd: {call}(") in out
    assert "\x1b" not in out
    Path("exits.py").write_text(EXITS.format(first=ends, ends=ends))
    assert cli.main([*command, "--cache", "cache", "--fresh"]) == 2
    assert "exits.py" in capsys.readouterr().err
