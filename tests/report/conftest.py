"""Shared by the tests of pages: the report of the project's own boards, reports of small runs, and a browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness import cli
from harness.boards import store
from harness.report import sources
from harness.runs import resolve
from harness.testing import tiny_dataset
from tests.helpers.boards import shipped_record
from tests.helpers.pages import write_run

OWN = Path(__file__).parents[2] / "leaderboards"

RUNS: dict[str, tuple[str, ...]] = {
    "cifarfs_delay5": ("nearest_pixel",),
    "omniglot_continual5": ("nearest_pixel",),
    "cifarfs_5way_5shot": ("nearest_pixel",),
    "fss1000_distractors": ("mean_mask", "--data", "stand-in"),
    "cifar100_supervised": ("resnet20", "--budget", "smoke", "--episodes", "256"),
}
"""Protocol to what is run on it: all kinds, as an online stream is a delayed one."""


@pytest.fixture(scope="session")
def own_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The report of the project's boards, without data, and the seconds on one core that it took; once for all
    workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "own_report"
    seconds = folder / "seconds"
    with FileLock(folder.with_suffix(".lock")):
        if not seconds.exists():
            begin = time.process_time()
            places = ["--data-root", str(folder), "--cache", str(folder / "cache")]
            assert cli.main(["report", "--boards", str(OWN), "--out", str(folder / "site"), *places]) == 0
            seconds.write_text(str(time.process_time() - begin))
    return folder / "site", float(seconds.read_text())


@pytest.fixture(scope="session")
def small_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose pages are the same each time: a board of made-up rows with its protocol, a run of every kind on
    random images with its worst and best episodes, and one that was interrupted."""
    folder = tmp_path_factory.mktemp("small_report")
    for number, method in enumerate(("cl_lstm", "opn", "lstm", "apl", "count")):
        changes: dict[str, Any] = {"run": f"{method}-s0", "method": method, "options": {"width": 16 * number}}
        store.append_record(shipped_record("cifarfs_delay5", 70 - 10 * number, **changes), folder / "boards")
    with pytest.MonkeyPatch.context() as patch:
        for module in (resolve, sources):
            patch.setattr(module, "load_dataset", lambda name, *_, **__: tiny_dataset(name, classes=8, images=30))
        for protocol, (method, *words) in RUNS.items():
            where = ["--run", str(folder / "runs" / protocol), "--test-episodes", "16", "--threads", "1"]
            assert cli.main(["run", protocol, "--method", method, *words, *where, "--no-board", "--no-check"]) == 0
        write_run(folder / "runs" / "stopped", "interrupted")
        runs = [str(path.parent) for path in (folder / "runs").rglob("run.json")]
        words = ["cifarfs_delay5", *runs, "--boards", str(folder / "boards"), "--out", str(folder / "site")]
        assert cli.main(["report", *words]) == 0
    return folder / "site"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium: that of the system, or the one that Playwright has installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: install the extra dev")
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as started:
        try:
            launched = started.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(
                "no Chromium is found: install one of the system, or run 'playwright install chromium' "
                f"({str(error).splitlines()[0]})"
            )
        yield launched
        launched.close()
