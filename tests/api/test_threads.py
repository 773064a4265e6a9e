"""Calls from several threads of a process: one after the other, with the numbers of each alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import harness as h
from harness.util.atomic_files import replacing
from harness.util.one_at_a_time import one_at_a_time

SEEDS = (0, 1, 2, 3)


class Watch(h.Callback):
    """How many runs are under way at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def on_start(self, identity: Mapping[str, Any], folder: Path) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.05)

    def on_end(self, record: h.Record | None) -> None:
        self.now -= 1


def test_runs_of_several_threads_have_the_numbers_of_runs_alone(here: Path) -> None:
    watch = Watch()

    def run(seed: int, out: str = "threads") -> Any:
        words = {"data": "stand-in", "budget": "smoke", "threads": 1, "check": False, "quiet": True}
        return h.run("late.yaml", "protonet", seeds=[seed], out=out, board=out == "threads", callbacks=[watch], **words)  # type: ignore[arg-type]

    with ThreadPoolExecutor(len(SEEDS)) as pool:
        together = [each.record for each in pool.map(run, SEEDS)]
    assert watch.most == 1
    alone = [run(seed, "alone").record for seed in SEEDS]
    assert [each.metrics for each in together] == [each.metrics for each in alone]
    assert [each.checkpoint for each in together] == [each.checkpoint for each in alone]


def test_a_call_within_a_call_goes_on_and_a_forked_process_waits_for_nobody() -> None:
    @one_at_a_time
    def inner() -> int:
        return 1

    @one_at_a_time
    def outer() -> int:
        return inner()

    assert outer() == 1
    if not hasattr(os, "fork"):
        return
    held, done = threading.Event(), threading.Event()

    @one_at_a_time
    def hold() -> None:
        held.set()
        done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(0 if outer() == 1 else 1)
    deadline = time.monotonic() + 20
    while (state := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    done.set()
    holder.join()
    assert state == (child, 0)


def test_threads_that_write_one_file_do_not_take_each_others(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def write(text: str) -> None:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text(text)
            both.wait(30)

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(write, text) for text in ("one", "two")]:
            each.result()
    assert (tmp_path / "file").read_text() in {"one", "two"}
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
