"""Sweeps on this machine: runs and drivers that are killed, a full disk. Nothing is lost, and nothing is double."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import sweeps
from tests.helpers.interrupted_sweeps import interrupted

pytestmark = pytest.mark.slow

RUN = "cl_lstm-smoke-s0"


def test_a_killed_run_is_tried_again_and_outlives_its_killed_driver(
    tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path, sweeps.ONE)
    sweep = sweeps.started(place, sweep_cache)
    first = sweeps.until(lambda: sweeps.process_of(place, RUN, on_node=False))
    sweeps.kill(first)
    sweeps.until(lambda: sweeps.process_of(place, RUN, on_node=False) not in {None, first})
    sweeps.kill(sweep.pid)
    said, _ = sweep.communicate()
    assert "failed (killed by signal 9)" in said
    sweeps.swept(place, sweep_cache)  # waits for the run that its first driver has left behind
    sweeps.same(place, local_sweep())


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own in a folder, with room for no more than a few pages."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: that needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_one_run_until_there_is_room(
    tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path)
    (there,) = local_sweep().glob(f"runs/late/{RUN}-*")
    folder = place / there.relative_to(local_sweep())
    with small_disk(folder):
        sweep = sweeps.started(place, sweep_cache, "--jobs", "2")
        said, _ = sweep.communicate(timeout=900)
        assert sweep.returncode == 1, said
        assert said.count("No space left on device") == 3, said  # both tries, and the summary
        assert len(sweeps.rows(place)) == 2
        subprocess.run(["mount", "-o", "remount,size=16m", str(folder)], check=True)
        sweeps.swept(place, sweep_cache)
        assert len(sweeps.rows(place)) == 3
        sweeps.same(place, local_sweep())


def test_a_sweep_that_is_interrupted_at_random_comes_to_the_same(
    tmp_path: Path, sweep_cache: Path, local_sweep: Callable[[], Path]
) -> None:
    place = sweeps.written(tmp_path, sweeps.ONE)
    assert interrupted(sweeps.command(sweep_cache), place, times=2, every=3, seed=1)
    assert sweeps.same(place, local_sweep()) == 1
