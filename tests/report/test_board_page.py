"""The page of a board: what it holds, that all of it is text, that it stays small and leads nowhere else."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import cli
from harness.boards import store
from harness.boards.entries import Entry
from harness.boards.lines import line_of
from harness.boards.markdown import view_all, view_board
from harness.evaluation.intervals import of_values
from harness.protocol.load import load_protocol
from harness.protocol.models import PROTOCOL
from harness.records.record import Record
from harness.report.board_page import board_page
from harness.report.curves import mean_curve
from harness.report.entry_names import entry_names
from harness.report.page import Pages, file_name
from harness.report.table_page import table_page
from harness.runs.folder import write_scores
from harness.tables.cells import fill
from harness.tables.definition import find_table
from harness.util.tensor_files import sha256_of
from tests.helpers.boards import LOADED, PROTOCOL_TEXT, record
from tests.helpers.pages import HOSTILE, check_command, check_page, commands_of, text_of

OWN = Path(__file__).parents[2] / "leaderboards"


def with_scores(boards: Path, share: float, **changes: Any) -> Record:
    """A record whose scores of 1000 episodes of 50 steps lie beside the board."""
    right = (np.random.default_rng(0).random((1000, 50)) < share).astype(np.float64)
    scores = {
        "right": np.repeat(right[:, :10], 5, 1), "count": np.ones((1000, 50)), "revealed_right": right,
        "revealed_count": np.ones((1000, 50)), "by_step": right,
    }  # fmt: skip
    folder = boards / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    write_scores(folder / "new.npz", scores)
    digest = sha256_of(folder / "new.npz")
    (folder / "new.npz").rename(folder / f"{digest}.npz")
    return record(100 * share, scores=digest, **changes)


def page(boards: Path, records: list[Record], pages: Pages = Pages()) -> str:  # noqa: B008
    for each in records:
        store.append_record(each, boards)
    return board_page(view_board(LOADED.name, LOADED.protocol, boards, stand_in=False), boards, pages)


def test_a_board_without_rows_says_so(tmp_path: Path) -> None:
    text = page(tmp_path, [])
    check_page(text)
    assert "Nothing measured yet" in text


def test_a_board_shows_entries_seeds_intervals_costs_and_commands(tmp_path: Path) -> None:
    records = [
        record(90.0, run="opn-0"),
        record(92.0, run="opn-1", seed=1),
        record(70.0, run="other", method="count", options={}, marks=["label delay told", "my own mark"]),
        record(60.0, run="part", method="count", options={}, test_episodes=10),
    ]
    found = page(tmp_path, records)
    check_page(found)
    text = text_of(found)
    for part in ("70.0 ± 0.5", "label delay told", "must infer it", "10 of 1000 test episodes", "std over 3 runs",
                 "accuracy against parameters", "harness run tiny_online --method opn", "91.2 ± 1.1"):  # fmt: skip
        assert part in text, part
    in_plots, in_keys = 2 * 3 * 2, 3 * 3
    assert found.count('class="seed"') == in_plots + in_keys, "two seeds in plots of three metrics, for two widths"


def test_every_row_has_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny_online.yaml"
    found = page(tmp_path / "some where", [record(90.0, run="a"), record(run="b", options={})],
                 Pages({"tiny_online": str(path)}))  # fmt: skip
    boards = f"--boards '{tmp_path / 'some where'}'"
    assert [each for each in commands_of(found) if "verify" in each] == [
        f"harness verify {path} --row {line} {boards}" for line in (1, 2)
    ]
    monkeypatch.chdir(OWN.parent)
    stand_in = "fss1000_distractors"
    view = view_board(stand_in, load_protocol(stand_in).on_stand_in, OWN, stand_in=True)
    (command, *_) = (each for each in commands_of(board_page(view, OWN, Pages())) if "verify" in each)
    assert command == f"harness verify {stand_in} --row 1 --data stand-in"


@pytest.mark.slow
def test_commands_of_the_projects_own_pages_can_be_given(own_report: tuple[Path, float]) -> None:
    found = [each for path in own_report[0].rglob("*.html") for each in commands_of(path.read_text("utf-8"))]
    kinds = Counter(each.split()[1] for each in found)
    ranked = [record for view in view_all(OWN) for _, entry in view.standings.ranked for record in entry.records]
    assert set(kinds) == {"run", "verify", "lint"}
    assert kinds["verify"] == len(ranked) > 200
    for each in found:
        check_command(each)


def test_entries_of_a_method_are_named_by_what_only_they_have() -> None:
    shared = {"channels": 32, "forget_bias": 2, "lstm": 160}
    options: list[dict[str, Any]] = [shared, {**shared, "layers": 2}, {**shared, "layers": 3, "width": 8}, {}]
    entries = [Entry((record(run=f"r-{n}", options=each, defaults=[]),), 0, ()) for n, each in enumerate(options)]
    names = [entry_names([*entries, Entry((record(method="count"),), 0, ())])[id(entry)] for entry in entries]
    assert names == ["opn, channels=32, forget_bias=2, lstm=160",
                     "opn, layers=2, channels=32, forget_bias=2, lstm=160",
                     "opn, layers=3, width=8, channels=32, forget_bias=2, lstm=160", "opn, default"]  # fmt: skip
    assert [*entry_names(entries[:1]).values()] == ["opn"]
    with_budget = [Entry((record(run=f"r-{n}", budget=each),), 0, ()) for n, each in enumerate(("smoke", "quick"))]
    assert [*entry_names(with_budget).values()] == ["opn, smoke", "opn, quick"]
    trained = [Entry((record(run=f"r-{n}", train_episodes=100 * n),), 0, ()) for n in (1, 20)]
    assert [*entry_names(trained).values()] == ["opn, 100 episodes", "opn, 2,000 episodes"]
    alike = [Entry((record(run=f"opn-quick-s0-{n}"),), 0, ()) for n in ("a123456", "b123456")]
    assert [*entry_names(alike).values()] == ["opn, a12345", "opn, b12345"]


def test_paired_differences_are_of_the_same_episodes(tmp_path: Path) -> None:
    found = page(
        tmp_path, [with_scores(tmp_path, 0.9, run="a"), with_scores(tmp_path, 0.5, run="b", method="count", options={})]
    )
    check_page(found)
    assert "Without such scores: bare." in page(tmp_path, [record(10.0, run="c", method="bare", options={"width": 9})])
    assert re.search(r'class="better" title="opn less count: the interval excludes zero">\+[34]\d\.\d ± \d', found)
    assert re.search(r'class="worse" title="count less opn: the interval excludes zero">-[34]\d\.\d', found)


def test_a_papers_figure_has_bands_where_all_its_points_have_intervals() -> None:
    filled = fill(find_table("babu figure 4"), OWN)
    having = [[getattr(cell.measured, "interval", None) for cell in cells if cell.measured] for cells in filled.cells]
    assert any(any(row) and not all(row) for row in having), "a mean of some has no interval here"
    assert 'class="band' not in table_page(filled, [])
    check_page(table_page(filled, []))


def test_a_run_page_is_led_to_where_the_report_has_it(tmp_path: Path) -> None:
    found = page(tmp_path, [record(run="../../x")], Pages(runs={(LOADED.name, "../../x")}))
    (href,) = re.findall(r'<th scope=row><a href="([^"]+)"', found)
    assert href.startswith("../runs/tiny_online--.._.._x-")


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_comes_from_files_is_text(text: str, tmp_path: Path) -> None:
    protocol = PROTOCOL.validate_python(
        {**PROTOCOL_TEXT, "title": text, "notes": text, "published": [
            {"method": text, "variant": text, "source": text, "note": text, "metrics": {"accuracy@shot=1": 50}}]}
    )  # fmt: skip
    for number, method in enumerate((text, "opn")):
        store.append_record(
            record(50 + number, run=text, method=method, options={text: text}, recipe=text, marks=[text], command=text,
                   budget=text, hardware=record().hardware.model_copy(update={"cpu": text})),
            tmp_path,
        )  # fmt: skip
    found = board_page(view_board(LOADED.name, protocol, tmp_path, stand_in=False), tmp_path, Pages())
    check_page(found)
    assert text_of(found).count(text) > 10


def test_control_and_direction_characters_are_spelt_out(tmp_path: Path) -> None:
    found = page(
        tmp_path, [record(run="a", recipe="x\x1b[2J\u202ey\ud800".replace("\ud800", ""), options={"a": "\u202e"})]
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", found)
    assert "\\u202e" in found


@pytest.mark.slow
def test_a_thousand_rows_stay_below_three_megabytes(tmp_path: Path) -> None:
    tmp_path.joinpath("tiny_online.jsonl").write_text(
        "".join(
            line_of(
                record(50 + n / 50, run=f"method-quick-s0-{n:08x}", method=f"method{n % 40}", options={"width": n},
                       marks=["label delay told", "features pre-trained on classes"], curves={"by_step": [20.0] * 50})
            ) + "\n"
            for n in range(1000)
        )
    )  # fmt: skip
    found = page(tmp_path, [])
    assert found.count("<tr data-budget") == 1000
    assert len(found.encode()) < 3_000_000


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "é", "a b", "x" * 300, "con<script>", ""])
def test_names_of_files_are_of_safe_characters_and_differ(name: str) -> None:
    found = file_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,120}\.html", found)
    assert found != file_name(name + "?")


@pytest.mark.slow
def test_the_projects_own_boards(own_report: tuple[Path, float]) -> None:
    site, seconds = own_report
    assert seconds < 20, "seconds on one core"
    boards = len([*OWN.rglob("*.jsonl")])
    assert [len([*(site / folder).rglob("*.html")]) for folder in ("boards", "protocols", "tables")] == [
        boards,
        len({path.stem for path in OWN.rglob("*.jsonl")}),
        9,
    ]
    assert max(path.stat().st_size for path in site.rglob("*.html")) < 1_000_000
    (figure,) = (site / "tables").glob("*figure_4*")
    for path in (
        site / "index.html",
        site / "boards" / "cifarfs_delay5.html",
        site / "protocols" / "omniglot_continual20.html",
        figure,
    ):
        check_page(path.read_text(encoding="utf-8"), path)
    assert "reached" in text_of((site / "index.html").read_text(encoding="utf-8"))
    assert "<svg" in figure.read_text(encoding="utf-8")


def test_named_boards_and_files_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["report", "cifarfs_delay2", "--boards", str(OWN), "--data-root", ".", "--cache", "cache", "--out", "site"]
    assert cli.main(words) == 0
    assert cli.main(words) == 0, "pages of a report are written again"
    assert {path.name for path in Path("site").rglob("*.html")} == {"index.html", "cifarfs_delay2.html"}
    Path("mine").mkdir()
    Path("mine/index.html").write_text("my own")
    assert cli.main([*words[:-1], "mine"]) == 2
    assert Path("mine/index.html").read_text() == "my own"
    assert [each.name for each in Path("mine").iterdir()] == ["index.html"], "no page was written before"
    assert cli.main([*words[:-1], "mine/index.html"]) == 2


def test_a_curve_of_several_seeds_is_their_mean_with_the_interval_of_boards() -> None:
    rng = np.random.default_rng(0)
    by_step = [rng.random((40, 3)) for _ in range(3)]
    records = [record(seed=n, curves={"by_step": (100 * each.mean(0)).tolist()}) for n, each in enumerate(by_step)]
    drawn = mean_curve(records, "by_step", [{"by_step": each} for each in by_step], "opn", 0)
    assert drawn is not None
    expected = [of_values(np.stack([each[:, place] for each in by_step])) for place in range(3)]
    assert drawn.y == pytest.approx([each.mean for each in expected])
    assert drawn.half == pytest.approx([each.half for each in expected])
    without = mean_curve(records, "by_step", [None] * 3, "opn", 0)
    assert without is not None
    assert (without.y, list(without.half)) == (drawn.y, [])
    assert mean_curve([*records[:2], record(curves={})], "by_step", [], "opn", 0) is None
