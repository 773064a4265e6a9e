"""Boards: grouping, ranking, rendering, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import cli
from harness.boards import defaults, markdown
from harness.boards.columns import options_of
from harness.boards.defaults import default_options
from harness.boards.lines import line_of
from harness.boards.markdown import MADE, publish, render_index, view_all, view_board, write_board, write_index
from harness.boards.standings import Standings, Summary, standings
from harness.boards.store import append_record, read_board
from harness.protocol.load import Loaded
from harness.protocol.models import PROTOCOL
from harness.records.parts import Metric
from harness.records.record import Record
from harness.util.errors import UserError
from tests.helpers.boards import DIGEST, LOADED, PROTOCOL_TEXT, board_file, record, rendered

STAND_IN_DIGEST = PROTOCOL.validate_python({**PROTOCOL_TEXT, "dataset": "glyphs"}).digest


def ranking(*records: Record, test_episodes: int | None = 1000) -> Standings:
    return standings(list(enumerate(records, start=1)), DIGEST, test_episodes, "accuracy")


# Entries and ranks


def test_seeds_of_one_setting_are_one_entry_with_mean_and_spread() -> None:
    ((rank, entry),) = ranking(record(70, 0.4, seed=2), record(80, 0.6, seed=0), record(90, 0.5, seed=1)).ranked
    assert rank == "1"
    assert [each.seed for each in entry.records] == [0, 1, 2]
    summary = entry.summary("accuracy")
    assert summary is not None
    assert summary.mean == pytest.approx(80)
    assert summary.spread == pytest.approx(10)
    of_seeds, of_episodes = 4.3027 * 10 / 3**0.5, 0.5  # Student's with two degrees of freedom; not 0.5 / sqrt(3)
    assert summary.interval is not None
    assert summary.interval == pytest.approx(np.hypot(of_seeds, of_episodes), rel=0.1)
    assert summary.bounds is not None
    assert 100 - summary.bounds[1] < summary.bounds[0], "wider on the side away from 100 %"


def test_one_seed_has_no_spread() -> None:
    ((_, entry),) = ranking(record()).ranked
    summary = entry.summary("accuracy")
    assert summary is not None
    assert summary.spread is None


def test_a_metric_that_one_seed_lacks_is_not_averaged_over_the_others() -> None:
    short = record(seed=1)
    short = short.model_copy(update={"metrics": {"accuracy": short.metrics["accuracy"]}})
    ((_, entry),) = ranking(record(), short).ranked
    assert entry.summary("accuracy@shot=1") is None
    assert entry.summary("accuracy") is not None


def test_of_one_setting_and_seed_the_later_line_counts_whatever_time_it_says_and_the_older_are_counted() -> None:
    last = record(80, finished="2026-02-01T00:00:00Z")
    ((_, entry),) = ranking(record(60, finished="2026-03-01T00:00:00Z"), record(70), last).ranked
    assert entry.records == (last,)
    assert entry.older == 2


def test_a_newer_record_that_failed_a_check_takes_the_older_one_out_of_the_ranking() -> None:
    failed = record(marks=["failed check: no cross-talk"], finished="2026-03-01T00:00:00Z")
    result = ranking(record(), failed)
    assert result.ranked == ()
    assert [heading for heading, _ in result.apart] == ["Failed a check"]


def test_two_runs_of_one_name_but_different_settings_are_both_shown() -> None:
    assert len(ranking(record(), record(options={"width": 32}, finished="2026-03-01T00:00:00Z")).ranked) == 2


def test_entries_share_a_rank_if_the_interval_of_their_difference_includes_zero() -> None:
    entries = [(90.0, 0.5), (89.4, 0.5), (88.8, 0.5), (80.0, 0.1), (20.0, 0.0), (20.0, 0.0)]
    result = ranking(*(record(a, i, options={"n": n}) for n, (a, i) in enumerate(entries)))
    # The third is like the second but not like the first, which is what counts.
    assert [rank for rank, _ in result.ranked] == ["1=", "1=", "3", "4", "5=", "5="]


def test_scores_of_single_episodes_separate_what_their_intervals_do_not() -> None:
    episodes = np.random.default_rng(0).random(1000)
    values = {0: episodes, 1: np.clip(episodes - 0.005, 0, 1), 2: np.roll(episodes, 1) - 1e-6}
    rows = [record(100 * each.mean(), 1.8, options={"n": n}) for n, each in values.items()]
    alone = standings(list(enumerate(rows)), DIGEST, 1000, "accuracy")
    assert [rank for rank, _ in alone.ranked] == ["1=", "1=", "1="]

    def stored(row: Record) -> dict[str, np.ndarray]:
        return {"accuracy": values[int(str(row.options["n"]))]}

    result = standings(list(enumerate(rows)), DIGEST, 1000, "accuracy", stored)
    assert [(rank, entry.newest.options["n"]) for rank, entry in result.ranked] == [("1=", 0), ("1=", 2), ("3", 1)]


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((96.9, 97.3), "97.1 ± 0.2"),
        ((96.5, 97.3), "97.1 +0.2 -0.6"),
        ((96.89, 97.3), "97.1 ± 0.2"),
        ((97.1, 97.1 + 1e-14), "97.1 ± 0.0"),
        (None, "97.1"),
        ((97.1 + 1e-13, 97.1 + 1e-13), "97.1 ± 0.0"),
    ],
)
def test_an_interval_whose_sides_differ_is_printed_with_both(bounds: tuple[float, float] | None, text: str) -> None:
    assert Summary(97.1, bounds, None).text() == text


def test_the_ranking_does_not_depend_on_the_order_of_the_lines() -> None:
    rows = [record(50, 0.1, options={"n": n}, run=f"r{n}", seed=n % 2) for n in range(6)]
    assert ranking(*rows).ranked == ranking(*reversed(rows)).ranked


@pytest.mark.parametrize(
    ("change", "heading", "why"),
    [
        (
            {"digest": "e" * 64},
            "Another protocol digest",
            f"digest {'e' * 12}, the protocol's is {DIGEST[:12]}",
        ),
        (
            {"data": record().data.model_copy(update={"fingerprint": "e" * 64})},
            "Other data",
            f"fingerprint {'e' * 12}, most rows have {'a' * 12}",
        ),
        ({"marks": ["failed check: no anticipation"]}, "Failed a check", "failed check: no anticipation"),
        ({"test_episodes": 999}, "Partial test", "999 of 1000 test episodes"),
        ({"marks": ["partial test"]}, "Partial test", "marked so; 1000 test episodes"),
        (
            {"metrics": {"accuracy@shot=1": Metric(mean=99.0, interval=0.1, episodes=1000)}},
            "Without 'accuracy'",
            "no metric 'accuracy'",
        ),
    ],
)
def test_a_row_that_cannot_be_compared_stands_apart_with_its_reason(
    change: dict[str, Any], heading: str, why: str
) -> None:
    result = ranking(record(10), record(11, seed=1), record(99, **{"options": {"n": 1}, **change}))
    assert [entry.records[0].options for _, entry in result.ranked] == [{"width": 16}]
    ((found, (entry,)),) = result.apart
    assert found == heading
    assert entry.reasons == ((heading, why),)


def test_more_test_episodes_than_there_are_stand_apart() -> None:
    result = ranking(record(test_episodes=10**9), record())
    assert [heading for heading, _ in result.apart] == ["More test episodes than the protocol has"]
    assert len(result.ranked) == 1


def test_a_row_whose_check_was_left_out_stands_apart_with_the_reason() -> None:
    result = ranking(record(marks=["not checked"]), record(seed=1))
    ((heading, (entry,)),) = result.apart
    assert heading == "Not checked"
    assert entry.reasons == (("Not checked", "the run left the conformance check out"),)
    assert len(result.ranked) == 1


def test_seeds_of_different_versions_of_a_method_are_different_entries() -> None:
    result = ranking(record(), record(seed=1, method_version=2), record(seed=2, method_version=1))
    assert sorted([each.seed for each in entry.records] for _, entry in result.ranked) == [[0, 2], [1]]


def test_the_data_of_most_rows_are_compared_and_of_two_equal_sets_the_later() -> None:
    other = record().data.model_copy(update={"fingerprint": "e" * 64})
    late = record(data=other, run="late", finished="2026-06-01T00:00:00Z")
    ((_, entry),) = ranking(record(), late).ranked
    assert entry.newest.run == "late"
    result = ranking(record(), record(seed=1), late)
    assert [each.run for each in result.ranked[0][1].records] == ["opn-quick-s0"] * 2


def test_rows_of_another_digest_have_no_say_in_what_the_data_are() -> None:
    other = record().data.model_copy(update={"fingerprint": "e" * 64})
    strangers = [record(digest="e" * 64, data=other, seed=seed) for seed in range(3)]
    assert len(ranking(record(), *strangers).ranked) == 1


# Rendering


@pytest.fixture
def only_own_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.util.shipped_files.protocol_files", dict)


def filled(boards: Path) -> Path:
    rows = [
        record(97.14, 0.21, method="opn"),
        record(97.34, 0.19, method="opn", seed=1, run="opn-quick-s1"),
        record(20.0, 0.0, method="chance", target="methods.chance:Chance", run="chance", options={}),
        record(99.0, 0.1, digest="e" * 64, run="old-protocol", options={"width": 2}),
    ]
    for row in rows:
        append_record(row, boards, print)
    return board_file(boards)


def test_a_board_shows_measured_published_and_apart_rows_each_in_its_place(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with path.open("a") as file:
        file.write("{broken\n")
    text = rendered(LOADED, tmp_path)
    title, measured, published, apart, problems = text.split("\n## ")
    assert title.startswith("# Tiny \\| stream")
    assert DIGEST[:12] in title
    assert "1000 test episodes" in title
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in measured.splitlines() if line.startswith("|")]
    header, _, first, second = rows
    cells = dict(zip(header, first, strict=True))
    assert cells["rank"] == "1"
    assert cells["accuracy"] == cells["accuracy@shot=5"] == "97.2 +1.1 -1.6"
    assert cells["seeds"] == "2 (± 0.14)"
    assert cells["training episodes"] == "20,000"
    assert cells["parameters"] == "111,936"
    assert cells["GFLOP/step"] == "0.0102"
    assert cells["state growth"] == "constant"
    assert cells["run"] == "opn-quick-s0, opn-quick-s1"
    assert dict(zip(header, second, strict=True))["method"] == "chance"
    assert published.startswith("Published elsewhere, not measured here")
    assert "91.2 ± 1.1" in published
    assert "97.2" not in published
    assert "old-protocol" in apart
    assert "Another protocol digest" in apart
    assert problems.startswith("Problems in the file\n\n- tiny_online.jsonl:5: not JSON: ")


def test_what_a_row_says_cannot_break_the_table_or_bring_in_markup(tmp_path: Path) -> None:
    append_record(record(method="a|b<script>", options={"text": "x|y"}), tmp_path)
    text = rendered(LOADED, tmp_path)
    assert "a\\|b&lt;script>" in text
    assert "text=x\\|y" in text
    assert "<script" not in text


def test_published_rows_stay_off_the_stand_in_board(tmp_path: Path) -> None:
    append_record(record(stand_in=True, digest=STAND_IN_DIGEST), tmp_path)
    text = rendered(LOADED, tmp_path, stand_in=True)
    assert "Stand-in data" in text
    assert "Published" not in text
    assert "80.0 ± 0.5" in text
    assert "80.0" not in rendered(LOADED, tmp_path)


def test_a_protocol_without_stand_in_has_no_such_board(tmp_path: Path) -> None:
    bare = Loaded("bare", Path("bare.yaml"), PROTOCOL.validate_python({**PROTOCOL_TEXT, "stand_in": None}))
    with pytest.raises(UserError, match="bare"):
        rendered(bare, tmp_path, stand_in=True)


def test_stand_in_rows_live_in_a_folder_of_their_own(tmp_path: Path) -> None:
    assert append_record(record(stand_in=True), tmp_path) == tmp_path / "stand_in" / "tiny_online.jsonl"
    path = tmp_path / "stand_in" / "tiny_online.jsonl"
    path.write_text(path.read_text() + line_of(record()) + "\n")
    board = read_board(path)
    assert [each.data.stand_in for _, each in board.records] == [True]
    assert board.problems == (
        "tiny_online.jsonl:2: data.stand_in is false: the record belongs to the boards of real data",
    )


@pytest.mark.usefixtures("only_own_protocols")
def test_publishing_writes_row_board_and_index_and_rendering_again_changes_no_byte(tmp_path: Path) -> None:
    path = publish(record(97.1, 0.2), LOADED, tmp_path).path
    assert path == tmp_path / "tiny_online.md"
    assert path.read_text().startswith(MADE)
    assert "97.1 ± 0.2" in path.read_text()
    assert "97.1 ± 0.2" in (tmp_path / "README.md").read_text()
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    write_board(LOADED, tmp_path)
    write_index(tmp_path)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_publishing_ranks_the_board_once_unless_somebody_appends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markdown, "_shipped", lambda name: LOADED if name == LOADED.name else None)
    ranked: list[int] = []

    def counted(records: Any, *rest: Any) -> Standings:
        ranked.append(len(records))
        return standings(records, *rest)

    monkeypatch.setattr(markdown, "standings", counted)
    view = publish(record(run="first"), LOADED, tmp_path)
    assert ranked == [1]
    append_record(record(97.5, run="second", method="opn"), tmp_path)
    write_index(tmp_path, known=view)
    assert ranked == [1, 2]
    assert "97.5" in (tmp_path / "README.md").read_text()


@pytest.mark.usefixtures("only_own_protocols")
def test_a_file_that_somebody_wrote_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My project\n")
    said: list[str] = []
    publish(record(), LOADED, tmp_path, said.append)
    assert (tmp_path / "README.md").read_text() == "# My project\n"
    assert said == [f"{tmp_path / 'README.md'} was not written by the harness and was left as it is"]


def test_a_changed_copy_of_a_shipped_protocol_does_not_put_the_others_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markdown, "_shipped", lambda name: LOADED)
    changed = {**PROTOCOL_TEXT, "episode": {"ways": 3, "presentations": 10}}
    mine = Loaded("tiny_online", Path("mine/tiny_online.yaml"), PROTOCOL.validate_python(changed))
    append_record(record(run="everybody"), tmp_path)
    text = publish(record(run="mine", digest=mine.protocol.digest), mine, tmp_path, print).path.read_text()
    measured, apart = text.split("## Apart")
    assert "everybody" in measured
    assert "| mine" in apart


def test_the_index_has_a_line_a_board_with_best_measured_and_best_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(markdown, "_shipped", lambda name: LOADED if name == "tiny_online" else None)
    filled(tmp_path)
    append_record(record(55.5, protocol="own"), tmp_path)
    append_record(record(66.6, stand_in=True, digest=STAND_IN_DIGEST), tmp_path)
    real, stand_in = render_index(view_all(tmp_path)).split("## Stand-in")
    own, tiny = [line for line in real.splitlines() if line.startswith("| [")]
    assert "[tiny_online](tiny_online.md)" in tiny
    assert "opn 97.2 +1.1 -1.6" in tiny
    assert "| 3 " in tiny
    # apl printed 99.0 at one shot only; opn is the best of those that printed both scored shots.
    assert "opn 92.9 (Somebody 2020, table 1)" in tiny
    assert "own 55.5" not in own
    assert "55.5 ± 0.5" in own
    assert "(protocol file not shipped)" in own
    assert "[tiny_online](stand_in/tiny_online.md)" in stand_in
    assert "66.6" in stand_in
    assert "66.6" not in real


def test_a_board_of_a_protocol_that_is_not_at_hand_is_ranked_by_its_newest_record(tmp_path: Path) -> None:
    append_record(record(run="old", digest="e" * 64), tmp_path)
    append_record(record(run="new", finished="2026-06-01T00:00:00Z"), tmp_path)
    view = view_board("tiny_online", None, tmp_path, stand_in=False)
    assert [entry.newest.run for _, entry in view.standings.ranked] == ["new"]


def test_only_options_that_differ_from_the_defaults_of_a_built_in_method_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.boards.defaults.default_options", lambda target: {"width": 16, "deep": True})
    append_record(record(options={"width": 16, "deep": False, "rate": 0.1, "name": "x"}), tmp_path)
    text = rendered(LOADED, tmp_path)
    assert "deep=false, name=x, rate=0.1" in text
    assert "width=16" not in text


def test_a_row_says_itself_which_options_were_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.boards.defaults.default_options", lambda target: {"width": 64})
    append_record(record(options={"width": 16, "deep": False}, defaults=["width"]), tmp_path)
    (rank,) = view_board(LOADED.name, LOADED.protocol, tmp_path, False).standings.ranked
    assert options_of(rank[1].newest) == "deep=false"


def test_defaults_of_older_rows_are_frozen_and_no_code_of_a_row_is_run(tmp_path: Path) -> None:
    frozen = json.loads((Path(defaults.__file__).parent / "defaults.json").read_text())
    assert len(frozen) > 25
    assert default_options("methods.opn:OPN") == frozen["methods.opn:OPN"]
    evil = tmp_path / "evil.py"
    evil.write_text("raise SystemExit('was run')")
    assert default_options(f"{evil}:Evil") == {}
    assert default_options("os.path:join") == {}


# The command


def test_the_command_prints_a_board_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = tmp_path / "tiny_online.yaml"
    protocol.write_text(json.dumps(PROTOCOL_TEXT))
    boards = tmp_path / "boards"
    filled(boards)
    assert cli.main(["board", str(protocol), "--boards", str(boards), "--md"]) == 0
    assert capsys.readouterr().out == rendered(LOADED, boards)
    assert cli.main(["board", str(protocol), "--boards", str(boards), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(each["rank"], each["method"]) for each in shown["entries"]] == [("1", "opn"), ("2", "chance")]
    assert shown["entries"][0]["metrics"]["accuracy"]["mean"] == pytest.approx(97.24)
    assert [each["runs"] for each in shown["apart"]] == [["old-protocol"]]
    assert not (boards / "tiny_online.md").exists()


def test_the_command_writes_the_files_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocol = tmp_path / "tiny_online.yaml"
    protocol.write_text(json.dumps(PROTOCOL_TEXT))
    filled(tmp_path)
    assert cli.main(["board", str(protocol), "--boards", str(tmp_path), "--write"]) == 0
    assert "97.2" in (tmp_path / "tiny_online.md").read_text()
    assert cli.main(["board", "--boards", str(tmp_path), "--write", "--md"]) == 0
    out = capsys.readouterr()
    assert "[tiny_online](tiny_online.md)" in out.out
    assert "was left as it is" in out.err


def test_an_unknown_protocol_gets_the_nearest_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path)
    assert cli.main(["board", "omniglot_5way_onlin", "--boards", str(tmp_path)]) == 2
    assert "Did you mean 'omniglot_5way_online'?" in capsys.readouterr().err
    assert cli.main(["board", "tiny_onlin", "--boards", str(tmp_path)]) == 2
    assert "Did you mean 'tiny_online'?" in capsys.readouterr().err
    assert cli.main(["board", "tiny_online", "--boards", str(tmp_path)]) == 2
    assert "give its file" in capsys.readouterr().err


def test_no_boards_yet_is_said_and_nothing_is_created(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boards = tmp_path / "none"
    boards.mkdir()
    assert cli.main(["board", "--boards", str(boards)]) == 0
    assert "No boards yet" in capsys.readouterr().out
    assert cli.main(["board", "omniglot_5way_online", "--boards", str(boards)]) == 0
    assert "Nothing measured yet." in capsys.readouterr().out
    assert not [*boards.iterdir()]
