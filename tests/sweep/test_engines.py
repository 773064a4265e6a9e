"""Choosing an engine: what is wrong with a choice, and engines that are not to be had."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.sweep import slurm_engine
from harness.sweep.definition import Resources
from harness.sweep.engine import environment
from harness.sweep.engines import Choice
from harness.sweep.slurm_engine import slurm_options, start_slurm
from harness.util.errors import HarnessError, UserError

SINFO = """\
#!/bin/sh
echo 'cpu*|1-00:00:00'
echo 'gpu|2:00:00'
echo 'long|infinite'
"""


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("dask"), "there is no engine 'dask'; there are: local, ray, slurm"),
        (Choice("slurm", address="auto"), "address is that of a Ray cluster; add engine='ray'"),
        (Choice("ray", slurm=["partition=gpu"]), "slurm gives options of Slurm's sbatch; add engine='slurm'"),
    ],
)
def test_what_is_said_to_the_wrong_engine_is_refused(choice: Choice, message: str) -> None:
    with pytest.raises(UserError) as error:
        choice.check()
    assert message in str(error.value)


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_that_is_not_installed_names_its_extra(
    engine: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return importing(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=rf"pip install 'episode-harness\[{engine}\]'"):
        Choice(engine).start(tmp_path)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://head:10001", "give HOST:PORT"),
        ("head", "give HOST:PORT"),
        ("127.0.0.1:1", "no Ray cluster at '127.0.0.1:1': .*refused"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(
    address: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", object())
    with pytest.raises(UserError, match=message):
        Choice("ray", address=address).start(tmp_path)


def test_a_cluster_that_does_not_start_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(UserError, match=r"no Ray cluster on this machine: The current node timed out during startup\."):
        Choice("ray").start(tmp_path)


@pytest.mark.parametrize("pair", ["partition", "=gpu", "partition=", "array=0-3", "--output=x"])
def test_an_option_of_sbatch_that_cannot_be_given_is_refused(pair: str) -> None:
    with pytest.raises(UserError, match=r"^slurm "):
        slurm_options([pair])


def test_options_of_sbatch_are_written_in_any_way_that_sbatch_has() -> None:
    assert slurm_options(["partition=gpu", "--gres=gpu:a100:1", "mem_per_cpu=2G", "comment=a=b"]) == {
        "partition": "gpu",
        "gres": "gpu:a100:1",
        "mem-per-cpu": "2G",
        "comment": "a=b",
    }


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs on PATH, of which only sinfo says anything."""
    monkeypatch.setitem(sys.modules, "submitit", object())
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "srun", "sinfo"):
        (folder / name).write_text(SINFO if name == "sinfo" else "#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partition": "gpus"}, "there is no Slurm partition 'gpus'. Did you mean 'gpu'? There are: cpu, gpu, long."),
        ({"partition": "gpu", "time": "2:00:01"}, "jobs may take 120 minutes there at most"),
        ({"time": "4h"}, "sbatch takes minutes, 4:00:00 or 1-12:00:00"),
    ],
)
def test_what_slurm_does_not_have_is_said_before_anything_is_submitted(
    options: dict[str, str], message: str, sinfo: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        start_slurm(options, None, tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("options", "minutes"),
    [
        ({}, 24 * 60),
        ({"partition": "gpu,cpu"}, 120),
        ({"partition": "long"}, slurm_engine.YEAR),
        ({"time": "90:30"}, 91),
        ({"partition": "long", "time": "2-12"}, 60 * 60),
    ],
)
def test_a_job_has_the_time_that_is_given_or_else_all_that_its_partition_allows(
    options: dict[str, str], minutes: int, sinfo: Path, tmp_path: Path
) -> None:
    assert start_slurm(options, None, tmp_path).minutes == minutes


def test_without_slurm_or_its_controller_it_is_said(
    sinfo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sinfo / "sinfo").write_text(
        "#!/bin/sh\necho 'slurm_load_partitions: Unable to contact slurm controller' >&2\nexit 1"
    )
    with pytest.raises(HarnessError, match=r"Slurm does not answer: .*Unable to contact"):
        start_slurm({}, None, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"there is no Slurm here \(sbatch is not on PATH\)"):
        start_slurm({}, None, tmp_path)


def test_the_width_of_a_terminal_wraps_no_error_in_the_log_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("HARNESS_DATA", "here")
    found = environment(Resources(cores=3))
    assert "COLUMNS" not in found
    assert (found["HARNESS_DATA"], found["OMP_NUM_THREADS"]) == ("here", "3")
