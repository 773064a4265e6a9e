"""Pages in a real browser: no errors, no request, sorting and filtering, the rules of axe, layout at three widths.

Needs a Chromium and the extra `dev`; skipped without. Screenshots of every page are stored in the folder that
HARNESS_SCREENSHOTS names, else among pytest's temporary files.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from harness.boards.lines import line_of
from harness.boards.markdown import view_board
from harness.report.board_page import board_page
from harness.report.page import Pages, run_file
from harness.report.server import HOST, Sources, server
from tests.helpers.boards import LOADED, record
from tests.helpers.pages import write_run

LAYOUTS = Path(__file__).parent / "layouts"
"""Small screenshots of what pages are to look like, for each width."""

WIDTHS = {390: "light", 820: "dark", 1280: "light"}
"""Widths of a phone, a tablet and a desk, and the colours that the reader's system asks for."""

LOOKED_AT = (
    "index",
    "boards/",
    "protocols/",
    "runs/opn",
    "runs/fss1000",
    "episodes/cifarfs_delay5",
    "episodes/fss1000",
)
"""How the addresses of pages begin whose layouts and rules are checked; the others are made of the same parts."""

SCALE = 10
"""Pixels of a screenshot, along either side, that are one in a layout."""


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = os.environ.get("HARNESS_SCREENSHOTS")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def quiet_page(browser: Any, width: int, colours: str = "light") -> Iterator[Any]:
    """A page for screens of this width; fails on whatever a page logs, and on each request but to its own file."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours)
    page = context.new_page()
    said: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    yield page
    context.close()
    assert not said
    assert not [url for url in requests if not url.startswith(("file:", "data:"))]


UNREADABLE = """() => {
    const closed = [...document.querySelectorAll("details:not([open])")], found = [];
    closed.forEach(each => { each.open = true; });
    for (const picture of document.querySelectorAll("svg")) {
        const room = picture.getBoundingClientRect();
        if (!room.width) continue;
        const size = room.width / picture.viewBox.baseVal.width, last = [];
        for (const text of picture.querySelectorAll("text")) {
            const box = text.getBoundingClientRect(), words = text.textContent;
            const cut = Math.max(room.left - box.left, box.right - room.right, room.top - box.top,
                                 box.bottom - room.bottom) / size;
            if (cut > 2) found.push(`cut off by ${cut.toFixed(1)}: ${words}`);
            for (const [other, said] of last) {
                const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
                const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
                if (across > 2 * size && down > 5 * size) found.push(`over each other: ${said} and ${words}`);
            }
            last.push([box, words]);
        }
    }
    closed.forEach(each => { each.open = false; });
    return found.slice(0, 5);
}"""
"""Words in pictures that are cut off, or that stand over each other."""


def fits(page: Any, path: Path, width: int) -> None:
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path.name} is wider than the screen"
    assert page.evaluate(UNREADABLE) == [], path.name


def one_of_each(site: Path) -> list[Path]:
    """The pages of a report, but of episodes one of each run's."""
    episodes = {path.name.partition("--")[0]: path for path in sorted(site.rglob("episodes/*.html"))}
    return sorted([*episodes.values(), *(path for path in site.rglob("*.html") if path.parent.name != "episodes")])


def looked_at(site: Path, path: Path) -> bool:
    return path.relative_to(site).as_posix().startswith(LOOKED_AT)


def difference(found: Image.Image, wanted: Image.Image) -> float:
    """How much two layouts differ, blurred, as a share of what stands on the wanted page: 0 for the same one, and about
    1 or more for pages that have nothing in common."""
    a, b = (
        np.asarray(each.resize(wanted.size, Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(2)), np.float32)
        for each in (found, wanted)
    )
    return float(np.abs(a - b).mean() / np.abs(b - np.median(b)).mean())


@pytest.mark.slow
@pytest.mark.parametrize(("width", "colours"), WIDTHS.items())
def test_pages_open_without_errors_or_requests_and_look_as_they_should(
    small_report: Path, browser: Any, screenshots: Path, width: int, colours: str
) -> None:
    wrong: list[str] = []
    with quiet_page(browser, width, colours) as page:
        for path in one_of_each(small_report):
            checked = looked_at(small_report, path)
            if checked or width == min(WIDTHS):
                fits(page, path, width)
            if not checked:
                continue
            address = path.relative_to(small_report).with_suffix("").as_posix()
            name = f"{address.partition('--')[0].replace('/', '-')}-{width}.png"
            page.screenshot(path=screenshots / name, full_page=True)
            with Image.open(screenshots / name) as full:
                size = (-(-full.width // SCALE), -(-full.height // SCALE))
                small = full.convert("L").resize(size, Image.Resampling.BOX)
            small.save(screenshots / f"layout-{name}", optimize=True)
            if not (LAYOUTS / name).is_file():
                wrong.append(f"{name} is new")
                continue
            with Image.open(LAYOUTS / name) as wanted:
                grown, far = small.height / wanted.height - 1, difference(small, wanted)
            if abs(grown) > 0.1 or far > 0.7:  # other fonts move lines by less
                wrong.append(f"{name}: {grown:+.0%} of height, {far:.0%} of it elsewhere")
    assert not wrong, f"if so meant, layout-*.png in {screenshots} are the new {LAYOUTS.name}: {wrong}"


def check_rules(page: Any, paths: Iterable[Path], options: dict[str, Any] | None = None) -> None:
    """Fails on what breaks a rule of axe on any of the pages."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing: install the extra dev")
    found: dict[tuple[str, str], str] = {}
    for path in paths:
        page.goto(path.as_uri())
        # axe itself is put into the page, past its policy, by the browser's debugger.
        violations = axe.Axe().run(page, options=options).response["violations"]
        found |= {(path.name, each["id"]): each["nodes"][0]["html"][:200] for each in violations}
    assert not found


@pytest.mark.slow
def test_the_rules_of_axe_are_met(small_report: Path, own_report: tuple[Path, float], browser: Any) -> None:
    site, _ = own_report
    others = [site / "index.html", next((site / "tables").glob("*figure_4*")), site / "boards/cifarfs_delay5.html"]
    with quiet_page(browser, 390) as page:
        check_rules(page, [*(path for path in one_of_each(small_report) if looked_at(small_report, path)), *others])
    colours = {"runOnly": ["color-contrast"]}
    with quiet_page(browser, 1280, "dark") as page:
        check_rules(page, [small_report / "boards/cifarfs_delay5.html", *others[:2]], colours)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_projects_own_pages_open_and_fit(own_report: tuple[Path, float], browser: Any, width: int) -> None:
    pages = sorted(own_report[0].rglob("*.html"))
    assert len(pages) > 50
    with quiet_page(browser, width) as page:
        for path in pages:
            fits(page, path, width)


def test_a_table_is_sorted_filtered_and_its_columns_chosen(own_report: tuple[Path, float], browser: Any) -> None:
    with quiet_page(browser, 1280) as page:
        page.goto((own_report[0] / "boards" / "cifarfs_delay5.html").as_uri())
        methods = (
            "[...document.querySelectorAll('#rows tbody tr:not([hidden])')].map(r => r.cells[1].textContent.trim())"
        )
        first = page.evaluate(methods)
        accuracy = page.get_by_role("button", name="accuracy", exact=True)
        accuracy.click()
        assert page.evaluate(methods)[0] == first[0], "numbers are sorted from the largest on"
        accuracy.press("Enter")
        assert page.evaluate(methods) == first[::-1]
        page.fill("#rows-filter", "opn")
        found = [each for each in first if each == "opn"]
        assert page.evaluate(methods) == found != []
        assert page.text_content("#rows-status") == f"{len(found)} of {len(first)} shown"
        page.fill("#rows-filter", "")
        assert not page.get_by_role("columnheader", name="hardware").is_visible()
        page.get_by_text("Choose columns").click()
        page.get_by_label("hardware").check()
        assert page.get_by_role("columnheader", name="hardware").count() == 1
        page.get_by_role("button", name="Dark colours").click()
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_page_is_read_with_the_keyboard_alone(small_report: Path, browser: Any) -> None:
    with quiet_page(browser, 1280) as page:
        page.goto((small_report / "boards/cifarfs_delay5.html").as_uri())
        focused = "(e => e.textContent.trim() || e.getAttribute('aria-label') || e.id)(document.activeElement)"
        reached: list[str] = []
        for _ in range(200):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break
            reached.append(page.evaluate(focused).split("\n")[0])
        assert reached[0] == "Skip to the content"
        for each in ("Dark colours", "rows-filter", "Choose columns", "accuracy", "Numbers of this figure"):
            assert each in reached, each
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#main"


@pytest.mark.slow
def test_a_page_that_fetches_itself_again_leaves_its_reader_where_he_is(tmp_path: Path, browser: Any) -> None:
    folder = write_run(tmp_path / "runs" / "p" / "r")
    with server(Sources(tmp_path, tmp_path / "runs")) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://{HOST}:{served.server_port}/{run_file('opn', 'r')}")
        page.get_by_text("Numbers of this figure").nth(1).click()
        page.get_by_role("link", name="Setting").focus()
        with (folder / "log.jsonl").open("a") as log:
            log.write('\n{"stage": "opn the protocol", "episodes": 777, "seconds": 9, "loss": 1.0}\n')
        page.get_by_text("777", exact=True).first.wait_for(state="attached")  # within five seconds
        opened = "[...document.querySelectorAll('details')].map(each => each.open)"
        assert page.evaluate(opened) == [False, True, False]
        assert page.evaluate("document.activeElement.textContent") == "Setting"
        page.close()
        served.shutdown()


@pytest.mark.slow
def test_nothing_is_cut_off_in_print(small_report: Path, browser: Any) -> None:
    hidden = """[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1
        || box.getBoundingClientRect().right > innerWidth + 1).map(box => box.getAttribute('aria-label'))"""
    with quiet_page(browser, 720) as page:  # the width of A4 between its margins
        page.emulate_media(media="print")
        for path in one_of_each(small_report):
            fits(page, path, 720)
            assert not page.evaluate(hidden), path.name
    with quiet_page(browser, 720, "dark") as page:
        page.goto((small_report / "index.html").as_uri())
        colours = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        for words in ("Light colours", "Dark colours"):
            page.emulate_media(media="screen", color_scheme="dark")
            page.get_by_role("button", name=words).click()
            page.emulate_media(media="print")
            assert page.evaluate(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"], "paper is white, ink is black"


@pytest.mark.slow
def test_a_thousand_rows_can_be_used_and_sorted_within_a_second(tmp_path: Path, browser: Any) -> None:
    rows = (
        record(50 + n / 50, run=f"method-quick-s0-{n:08x}", method=f"method{n % 40}", options={"width": n},
               marks=["label delay told"])
        for n in range(1000)
    )  # fmt: skip
    (tmp_path / f"{LOADED.name}.jsonl").write_text("".join(line_of(each) + "\n" for each in rows))
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
