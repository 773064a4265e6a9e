"""Pages in a real browser: no errors, no request, sorting and filtering, the rules of axe, layout at three widths.

Needs the extra `browser` and a Chromium (`playwright install chromium`, or one on the PATH); skipped without.
Screenshots of every page are kept in the folder that HARNESS_SCREENSHOTS names, else among pytest's temporary files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.boards import store
from harness.boards.markdown import view_board
from harness.report.board_page import board_page
from harness.report.page import Pages
from tests.helpers.boards import LOADED, record
from tests.helpers.pages import write_run

playwright = pytest.importorskip("playwright.sync_api", reason="the extra browser is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra browser is not installed")

OWN = Path(__file__).parents[2] / "leaderboards"
BOARD = "boards/cifarfs_delay5.html"
LOOKS = [(390, "light", True), (820, "light", False), (1280, "dark", True)]
"""Widths of a phone, a tablet and a desk, the colours that the reader's system asks for, and whether axe looks too."""

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A real board with its protocol, and runs on generated data: of classes, of queries, of masks, and one that was
    stopped; with their worst and best episodes."""
    folder = tmp_path_factory.mktemp("reported")
    data = ["--data", "stand-in", "--cache", str(cache), "--threads", "1", "--no-board", "--out", str(folder / "runs")]
    for words in (("cifarfs_delay5", "nearest_pixel"), ("omniglot_continual5", "nearest_pixel"),
                  ("fss1000_distractors", "mean_mask")):  # fmt: skip
        assert cli.main(["run", words[0], "--method", words[1], "--test-episodes", "20", *data]) == 0
    write_run(folder / "runs" / "opn" / "stopped", "interrupted")
    runs = [str(path.parent) for path in (folder / "runs").rglob("run.json")]
    out = folder / "site"
    where = ["--boards", str(OWN), "--data-root", str(folder), "--cache", str(cache), "--out", str(out)]
    assert cli.main(["report", "cifarfs_delay5", *runs, *where]) == 0
    return out


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = os.environ.get("HARNESS_SCREENSHOTS")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as started:
        try:
            launched = started.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield launched
        launched.close()


@pytest.mark.parametrize(("width", "colours", "rules"), LOOKS)
def test_pages_open_without_errors_or_requests_and_fit(
    site: Path, browser: Any, screenshots: Path, width: int, colours: str, rules: bool
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours)
    page = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    episodes = {path.name.partition("--")[0]: path for path in site.rglob("episodes/*.html")}
    others = [path for path in site.rglob("*.html") if path.parent.name != "episodes"]
    for path in sorted([*episodes.values(), *others]):
        page.goto(path.as_uri())
        name = f"{path.parent.name}-{path.stem}-{width}-{colours}.png"
        page.screenshot(path=screenshots / name, full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path.name} is wider than the screen"
        # axe itself is put into the page, past its policy, by the browser's debugger.
        faults = axe.Axe().run(page).response["violations"] if rules else []
        assert not [(each["id"], each["nodes"][0]["html"][:200]) for each in faults], path.name
    assert not messages
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]
    context.close()


def test_a_table_is_sorted_filtered_and_its_columns_chosen(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((site / BOARD).as_uri())
    methods = "[...document.querySelectorAll('#rows tbody tr:not([hidden])')].map(r => r.cells[1].textContent.trim())"
    first = page.evaluate(methods)
    accuracy = page.get_by_role("button", name="accuracy", exact=True)
    accuracy.click()
    assert page.evaluate(methods)[0] == first[0], "numbers are sorted from the largest on"
    accuracy.press("Enter")
    assert page.evaluate(methods) == first[::-1]
    page.fill("#rows-filter", "opn")
    assert page.evaluate(methods) == ["opn"]
    assert page.text_content("#rows-status") == f"1 of {len(first)} shown"
    page.fill("#rows-filter", "")
    assert not page.get_by_role("columnheader", name="hardware").is_visible()
    page.get_by_text("Choose columns").click()
    page.get_by_label("hardware").check()
    assert page.get_by_role("columnheader", name="hardware").count() == 1
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.close()


def test_a_thousand_rows_can_be_used_and_sorted_within_a_second(tmp_path: Path, browser: Any) -> None:
    rows = (
        record(50 + n / 50, run=f"method-quick-s0-{n:08x}", method=f"method{n % 40}", options={"width": n},
               marks=["label delay told"])
        for n in range(1000)
    )  # fmt: skip
    (tmp_path / f"{LOADED.name}.jsonl").write_text("".join(store.line_of(each) + "\n" for each in rows))
    view = view_board(LOADED.name, LOADED.protocol, tmp_path, stand_in=False)
    path = tmp_path / "board.html"
    path.write_text(board_page(view, tmp_path, Pages()))
    page = browser.new_page()
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})  # time of the processor: others use it too

    def worked() -> float:
        found = {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}
        return float(found["TaskDuration"])

    page.goto("about:blank")
    begin = worked()
    page.goto(path.as_uri())
    ready = worked()
    assert ready - begin < 1, "seconds until it can be used"
    page.get_by_role("button", name="accuracy", exact=True).click()
    assert page.evaluate("document.querySelectorAll('#rows tbody tr')[999].cells[1].textContent.trim()") == "method0"
    assert worked() - ready < 1, "seconds to sort it"
    assert page.text_content("#rows-status") == "150 of 1000 shown"
    page.fill("#rows-filter", "method7")
    assert page.text_content("#rows-status") == "25 of 1000 shown"
    page.fill("#rows-filter", "")
    page.get_by_role("button", name="Show all rows").click()
    assert page.text_content("#rows-status") == "1000 of 1000 shown"
    page.close()
