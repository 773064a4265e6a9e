"""The page of a run: finished, interrupted, running, damaged; what its folder says is text."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness import cli
from harness.boards import store
from harness.report import sources
from harness.report.choice import EXTREMES, by_score
from harness.report.run_episodes import run_episodes
from harness.report.run_log import Logged, Stage, read_run, stages, throughput
from harness.report.run_page import run_page
from harness.report.server import HOST, Sources, _called, answers_to, server
from harness.report.sources import Places, subject_of
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.util.errors import UserError
from tests.helpers.boards import record, shipped_record
from tests.helpers.pages import HOSTILE, check_command, check_page, commands_of, text_of, write_run


def page_of(folder: Path) -> str:
    """The page of a run with its episodes."""
    run = read_run(folder)
    on = subject_of(run, Places())
    return run_page(run, on.protocol if on else None, run_episodes(run, on, Places())[0])


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (resolve, sources):
        monkeypatch.setattr(module, "load_dataset", lambda name, *_, **__: tiny_dataset(name, classes=8, images=10))
    monkeypatch.chdir(tmp_path)
    words = ["run", "cifarfs_delay5", "--method", "count", "--test-episodes", "20", "--threads", "1", "--no-board"]
    assert cli.main(words) == 0
    (noted,) = tmp_path.glob("runs/*/*/run.json")
    return noted.parent


@pytest.mark.parametrize("status", ["training", "interrupted", "failed"])
def test_an_unfinished_run_shows_how_far_it_got(tmp_path: Path, status: str) -> None:
    run = read_run(write_run(tmp_path / "x", status))
    assert [(each.name, each.begin, each.end) for each in stages(run.log)] == [
        ("opn warm start", 0, 30),
        ("opn the protocol", 30, 50),
    ]
    assert throughput(run.log) == ([30], [20])
    for live in (False, True):
        page = run_page(run, None, live=live)
        check_page(page)
        assert ('<main id="main" data-live>' in page) == (live and status == "training")
        text = text_of(page)
        for part in (status, "Training loss", "Validation", "opn warm start", "50", "harness run opn"):
            assert part in text, part


def test_a_finished_run_shows_scores_distribution_and_episodes(finished: Path) -> None:
    page = page_of(finished)
    check_page(page)
    text = text_of(page)
    for part in ("accuracy@shot=6", "partial test", "Single test episodes by their accuracy",
                 "--run runs/cifarfs_delay5/count-",
                 "A star marks the shots that the protocol reports (6, 7, 8), over which accuracy is the mean",
                 "Accuracy by shot", "GFLOP per step", "Nothing was trained",
                 "fewer test episodes than the protocol has",
                 "How answers come out along the stream"):  # fmt: skip
        assert part in text, part
    assert page.count("<image ") == 2 * EXTREMES * 50
    assert str(Path.cwd()) not in page, "a page is given to others, whose folders are others"
    scores = re.search('id="scores".*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    assert scores is not None
    assert scores[1].startswith('<tr><th scope="row">accuracy</th>'), "what the board is ranked by stands first"


def test_the_command_of_an_episode_writes_its_page(finished: Path) -> None:
    commands = commands_of(page_of(finished))
    assert len(commands) == 2
    check_command(commands[0])  # the other is that of this test's own process
    assert cli.main(shlex.split(commands[0])[1:]) == 0
    number = re.search("--episode ([0-9]+)", commands[0])[1]
    page = Path(f"episode-{number}.html").read_text()
    score = re.search(f"Episode {number}</a>: ([0-9.]+ %)", page_of(finished))
    assert score is not None
    facts = re.findall("<dt>([^<]*)</dt><dd>([^<]*)</dd>", page)
    assert ("method", "count") in facts
    assert ("accuracy of this episode", score[1]) in facts


def test_the_worst_and_best_episodes_of_ties_are_spread_evenly() -> None:
    values = np.array([50.0, *[0.0] * 9, 10, *[100.0] * 5])
    worst, best = by_score(values)
    assert worst.numbers == [1, 4, 6, 9]
    assert worst.note == "9 episodes earned 0.0 %; these 4 are chosen evenly from them."
    assert best.numbers == [11, 12, 14, 15]
    assert "5 episodes earned 100.0 %" in best.note
    worst, best = by_score(np.array([3.0, 1, 2, *[5.0] * 6, 8, 9]))
    assert worst.numbers == [1, 2, 0, 3]
    assert worst.note == "6 episodes earned 5.0 %; this is one chosen evenly from them."
    assert best.numbers == [10, 9, 4, 8], "none is shown twice"
    (every,) = by_score(np.full(9, 20.0))
    assert every.numbers == [0, 3, 5, 8]
    assert "Every episode earned 20.0 %" in every.note
    worst, best = by_score(np.arange(8.0))
    assert (worst.numbers, best.numbers) == ([0, 1, 2, 3], [7, 6, 5, 4])
    assert worst.note == best.note == ""
    assert by_score(np.arange(7.0)) == []


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    for status in ("training", "interrupted", "failed"):
        commands = commands_of(run_page(read_run(write_run(tmp_path / status, status)), None))
        assert commands == ["harness run opn", "harness run opn --resume"]
    noted = tmp_path / "failed" / "run.json"
    noted.write_text(noted.read_text().replace("harness run opn", "harness run opn --fresh --train-only"))
    assert commands_of(run_page(read_run(tmp_path / "failed"), None))[1] == "harness run opn --train-only --resume"
    noted.write_text(noted.read_text().replace('"failed"', '"trained"'))
    assert commands_of(run_page(read_run(tmp_path / "failed"), None))[1] == "harness run opn --resume"


def test_a_throughput_is_not_that_of_rounded_seconds() -> None:
    log = [Logged("all", 4.0 * n, round(0.26 * n, 1), 1.0, None) for n in range(1, 500)]
    at, rates = throughput(log)
    assert 50 < len(at) <= 110
    assert at[-1] > 1980
    assert max(abs(rate / (4 / 0.26) - 1) for rate in rates) < 0.1
    stages = [Logged("classes", 1000, 10, 1.0, None), Logged("head", 1010, 60, 1.0, None)]
    assert throughput([*stages, Logged("head", 1020, 62, 1.0, None)]) == ([1020], [5]), "not what lies between stages"


def test_stages_stand_in_a_table_too(tmp_path: Path) -> None:
    text = text_of(run_page(read_run(write_run(tmp_path / "x")), None))
    for part in ("opn the protocol", "0 to 30", "30 to 50", "41.50", "its log was written last at"):
        assert part in text, part


def test_a_damaged_run_is_said(tmp_path: Path, finished: Path) -> None:
    (finished / "record.json").write_text("{")
    page = page_of(finished)
    check_page(page)
    assert "damaged" in text_of(page)
    (finished / "run.json").write_text("[]")
    with pytest.raises(UserError, match="damaged"):
        read_run(finished)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_folder_says_is_text(tmp_path: Path, text: str) -> None:
    page = run_page(read_run(write_run(tmp_path / "x", word=text)), None)
    check_page(page)
    assert text_of(page).count(text) > 4


@pytest.mark.slow
def test_runs_are_reported_by_their_folders(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.main(["report", str(finished), "--out", "site"]) == 0
    assert capsys.readouterr().err == "", "nothing is said of boards, of which none is read"
    pages = [*Path("site").rglob("*.html")]
    assert len(pages) == 1 + 1 + 2 * EXTREMES
    for each in pages:
        check_page(each.read_text(), each)
    assert cli.main(["report", "site", "--out", "other"]) == 2


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    write_run(tmp_path / "runs" / "p" / "r")
    (tmp_path / "runs" / "p" / "damaged").mkdir()
    (tmp_path / "runs" / "p" / "damaged" / "run.json").write_text("{")
    store.append_record(record(), tmp_path / "boards")
    store.append_record(shipped_record("cifarfs_delay5"), tmp_path / "boards")
    places = Places(tmp_path, tmp_path / "cache")
    served = server(Sources(tmp_path / "boards", tmp_path / "runs", places))
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://{HOST}:{served.server_port}"
    served.shutdown()
    thread.join()
    served.server_close()


def fetched(address: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return str(answer.read().decode())


def test_the_server_makes_pages_of_what_is_there_now(address: str, tmp_path: Path) -> None:
    index = fetched(f"{address}/")
    check_page(index)
    assert "data-live" in index
    assert "boards/tiny_online.html" in index
    assert "tiny_online" in fetched(f"{address}/boards/tiny_online.html")
    run = tmp_path / "runs" / "p" / "r"
    assert "data-live" in fetched(f"{address}/runs/opn--r.html")
    (run / "run.json").write_text((run / "run.json").read_text().replace("training", "interrupted"))
    assert '<main id="main" data-live>' not in fetched(f"{address}/runs/opn--r.html")


def test_the_server_has_every_page_that_a_report_has(address: str, tmp_path: Path) -> None:
    index = fetched(f"{address}/")
    found = {href for href in re.findall('href="([^"#]+)"', index) if "/" in href}
    assert {href.partition("/")[0] for href in found} == {"boards", "protocols", "tables", "runs"}
    table = next(href for href in sorted(found) if "table_3" in href)
    for href in ("boards/cifarfs_delay5.html", "protocols/cifarfs_delay5.html", table):
        assert href in found
        check_page(fetched(f"{address}/{href}"))
    store.append_record(shipped_record("cifarfs_delay2"), tmp_path / "boards")
    assert "boards/cifarfs_delay2.html" in fetched(f"{address}/"), "boards are read again when they have changed"


@pytest.mark.parametrize(
    ("name", "host", "answered"),
    [
        ("127.0.0.1", HOST, True),
        ("localhost", HOST, True),
        ("elsewhere.example", HOST, False),
        ("192.0.2.1", HOST, False),
        ("192.0.2.1", "0.0.0.0", True),
        ("2001:db8::1", "::", True),
        ("elsewhere.example", "0.0.0.0", False),
        (socket.gethostname(), "0.0.0.0", True),
        ("", "0.0.0.0", False),
    ],
)
def test_the_server_answers_to_names_of_this_machine(name: str, host: str, answered: bool) -> None:
    assert answers_to(name, host) is answered


def test_the_server_listens_at_another_address_where_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    if socket.has_ipv6:
        with contextlib.suppress(OSError), server(Sources(Path("boards"), Path("runs")), host="::1") as served:
            assert served.server_address[0] == "::1"
    assert cli.main(["view", "--host", "192.0.2.1"]) == 2
    assert "cannot listen at 192.0.2.1" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["../run.json", "%2e%2e/run.json", "runs/p/r/run.json", "boards/no.html", "x"])
def test_the_server_gives_nothing_else(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetched(f"{address}/{path}")


def test_the_server_takes_requests_to_this_machine_alone_and_only_reads(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetched(f"{address}/", Host="elsewhere.example:80")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(address, data=b"x")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8000", "localhost"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("[::1", ""),
        (None, ""),
    ],
)
def test_a_request_to_port_80_says_no_port(header: str | None, name: str) -> None:
    assert _called(header) == name


def test_what_was_lost_before_a_run_went_on_is_no_stage() -> None:
    log = [
        Logged(stage, episodes, 0.0, None, None)
        for stage, episodes in (("A", 300), ("A", 400), ("B", 500), ("A", 350), ("A", 400), ("B", 800))
    ]
    assert stages(log) == [Stage("A", 0.0, 400), Stage("B", 400, 800)]
