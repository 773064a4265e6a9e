"""What commands print for people: tables that fit a terminal, other formats of the same, help, names and errors."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from harness.boards.places import _say_whose
from harness.boards.store import append_record
from harness.cli.text_table import csv_table, message, text_table, wrap
from harness.method.registry import method_names
from tests.helpers.boards import shipped_record

BOARD = "cifarfs_delay5"


@pytest.fixture
def boards(tmp_path: Path) -> list[str]:
    """The option that names a folder with a board of two ranked entries and one that is not."""
    marks = ["label delay told", "features pre-trained on classes", "gradient at test"]
    append_record(shipped_record(BOARD, 60.0, marks=marks, method="opn"), tmp_path)
    append_record(shipped_record(BOARD, 50.0, method="count", options={"n": 1}), tmp_path)
    append_record(shipped_record(BOARD, 90.0, method="cheat", options={"n": 2}, marks=["not checked"]), tmp_path)
    return ["--boards", str(tmp_path)]


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert cli.main(list(words)) == code
    found = capsys.readouterr()
    return found.err if code else found.out


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


ROWS = [
    {"name": "one", "value": "1.0 ± 0.1", "note": "a note of several words that is long", "more": "m" * 10},
    {"name": "second", "value": "2.0", "note": "short", "more": "m"},
]


def test_a_table_has_as_many_columns_as_fit_and_wraps_texts_at_words() -> None:
    narrow, left_out = text_table(ROWS, 40, ("name", "value"), ("note",))
    assert left_out == ["more"]
    assert widest(narrow) <= 40
    assert narrow.splitlines()[:4] == [
        "name    value      note",
        "------  ---------  ---------------------",
        "one     1.0 ± 0.1  a note of several",
        "                   words that is long",
    ]
    wide, left_out = text_table(ROWS, 200, ("name",))
    assert left_out == []
    assert len(wide.splitlines()) == 4


def test_a_number_and_its_interval_stay_together_and_columns_are_lined_up_on_any_console(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{"best": "nearest_pixel 34.5 ± 0.4", "entries": "5"}, {"best": "cpm 62.4 ± 0.6", "entries": "14"}]
    assert "34.5 ± 0.4" in text_table(rows, 30, ("best", "entries"), ("best",))[0]
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as console, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", console)
        lines = text_table(rows, 60, ("best", "entries"))[0].splitlines()
    assert lines[2:] == ["nearest_pixel 34.5 +/- 0.4  5", "cpm 62.4 +/- 0.6            14"]


def test_csv_reads_back() -> None:
    assert list(csv.DictReader(io.StringIO(csv_table(ROWS, ("name",))))) == ROWS
    assert csv_table([], ("name", "title")) == "name,title\n", "a reader of tables finds its columns"


def test_wrapping_keeps_words_whole_and_short_lines_as_they_are() -> None:
    assert wrap("a b\n" + "word " * 10, 21, "  ") == "a b\nword word word word\n  word word word word\n  word word"


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize(
    "words",
    [
        ["run", BOARD, "--method", "count", "--data", "stand-in", "--dry-run"],
        ["board", BOARD],
        ["board"],
        ["list"],
        ["table", "norml", "2"],
        ["table"],
        ["show", BOARD],
        ["show", BOARD, "--data", "stand-in"],
        ["show", "opn"],
        ["recipe", "omniglot_5way_online", "--method", "cl_lstm"],
    ],
    ids=" ".join,
)
def test_everything_fits_the_terminal(
    words: list[str], width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert widest(printed(capsys, *words)) <= width


def test_a_board_at_80_columns_has_rank_method_score_seeds_and_marks_and_more_with_more_room(
    boards: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {}
    for width in (80, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        text = printed(capsys, "board", BOARD, *boards)
        heads[width] = re.split(" {2,}", next(line for line in text.splitlines() if line.startswith("rank")))
        assert "Left out for lack of room: " in text
        assert "Not ranked: Not checked" in text
        assert "57.4" in text, "a published row"
        words = " ".join(text.split())
        assert ("Options are those" in words) == ("options" in heads[width])
        assert ("State is what one" in words) == ("state bytes" in heads[width])
    assert heads[80][:5] == ["rank", "method", "accuracy", "seeds", "marks"]
    assert len(heads[140]) > len(heads[80])
    wide = printed(capsys, "board", BOARD, *boards, "--wide")
    assert "hardware" in next(line for line in wide.splitlines() if line.startswith("rank"))
    assert "State is what one episode keeps in memory" in " ".join(wide.split())


def test_a_board_as_markdown_csv_and_json(boards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "board", BOARD, *boards, "--md").startswith("# CIFAR-FS, 5-way online, labels five")
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "board", BOARD, *boards, "--csv"))))
    assert [(row["rank"], row["method"]) for row in rows] == [("1", "opn"), ("2", "count"), ("", "cheat")]
    assert rows[2]["not ranked"] == "the run left the conformance check out"
    found = json.loads(printed(capsys, "board", BOARD, *boards, "--json"))
    assert [entry["method"] for entry in found["entries"]] == ["opn", "count"]
    index = list(csv.DictReader(io.StringIO(printed(capsys, "board", *boards, "--csv"))))
    assert [row["board"] for row in index] == [BOARD]


def test_a_board_may_be_given_by_its_file_or_its_folder(boards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(boards[1])
    by_name = printed(capsys, "board", BOARD, *boards)
    assert printed(capsys, "board", str(folder / f"{BOARD}.jsonl")) == by_name
    assert printed(capsys, "board", str(folder / f"{BOARD}.md")) == by_name
    assert printed(capsys, "board", str(folder)) == printed(capsys, "board", *boards)
    assert "there is no board 'no.jsonl'" in printed(capsys, "board", "no.jsonl", code=2)
    assert "give one of the two" in printed(capsys, "board", str(folder), *boards, code=2)


@pytest.mark.parametrize(
    "words",
    [["board"], ["board", BOARD], ["compare", BOARD, "cpm", "opn"], ["verify", BOARD], ["table", "norml", "2"]],
    ids=" ".join,
)
def test_a_folder_of_boards_that_is_not_there_is_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no folder of boards 'nowhere'" in printed(capsys, *words, "--boards", "nowhere", code=2)


def test_where_there_is_no_board_those_of_the_project_are_shown_and_it_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _say_whose.cache_clear()
    assert cli.main(["board", BOARD]) == 0
    found = capsys.readouterr()
    assert "cl_lstm" in found.out
    assert found.err.count("no board below the working directory; reading the project's own in ") == 1
    assert "measured" in printed(capsys, "table", "norml", "2")


@pytest.mark.slow
def test_a_table_of_a_paper_as_markdown_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "table", "norml", "2", "--csv"))))
    assert {"column", "board", "measured", "published", "notes"} <= rows[0].keys()
    assert "86.3" in {row["published"] for row in rows}
    assert printed(capsys, "table", "norml", "2", "--md").startswith("| Model")
    assert printed(capsys, "table", "--md").startswith("| table")


def test_a_method_is_shown_with_name_paper_kinds_options_and_marks(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "show", "opn", "--json"))
    assert found["title"].startswith("OPN: online prototypical networks (Ren")
    assert "continual" in found["kinds"]
    assert found["marks"] == ["label delay told"]
    channels = next(each for each in found["options"] if each["option"] == "channels")
    assert (channels["type"], channels["default"]) == ("int", "64")
    assert channels["meaning"]
    text = printed(capsys, "show", "OPN")
    assert "--set NAME=VALUE" in text
    assert "'euclidean' or 'cosine'" in text


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_card(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "show", name, "--json"))
    assert found["title"]
    assert found["summary"]
    assert found["kinds"]


def test_methods_and_protocols_of_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, "list", "methods", "--kind", "Segmentation_Distractors", "--json"))
    assert "cl_unet" in {row["name"] for row in rows}
    assert all("segmentation_distractors" in row["kinds"] for row in rows)
    assert "all_background" in printed(capsys, "list", "methods", "--kind", "segmentation_distractors")
    assert "cifarfs" not in printed(capsys, "list", "protocols", "--kind", "continual")
    assert "Did you mean 'continual'?" in printed(capsys, "list", "--kind", "continal", code=2)
    assert printed(capsys, "list", "datasets", "--csv").startswith("name,classes,title\n")
    for more in ([], ["--json"]):
        assert "a data set has none" in printed(capsys, "list", "datasets", "--kind", "continual", *more, code=2)


def test_a_protocol_as_json_has_its_episode_step_by_step(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = json.loads(printed(capsys, "show", BOARD, "--json", "--cache", str(tmp_path)))
    assert (found["kind"], found["ranking"], found["test_episodes"]) == ("delayed_label", "accuracy", 2000)
    steps = found["episode"]["steps"]
    assert len(steps) == 50
    assert [step["feedback_step"] for step in steps[:7]] == [-1, -1, -1, -1, -1, 0, 1]
    assert len(found["episode"]["classes"]) == 5


@pytest.mark.slow
def test_names_are_found_whatever_their_capitals(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert printed(capsys, "SHOW", "CIFARFS_Delay5", "--cache", str(tmp_path)).startswith("cifarfs_delay5: ")
    assert "passed" in printed(capsys, "check", "Chance", "--protocol", BOARD.upper())


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (["show", "cifarfs_dely5"], "cifarfs_delay5"),
        (["board", "cifarfs_dely5"], "cifarfs_delay5"),
        (["check", "op"], "opn"),
        (["validate", "cifarfs_dely5"], "cifarfs_delay5"),
        (["chek"], "check"),
        (["run", "cifarfs_delay5", "--metod", "opn"], "--method"),
    ],
)
def test_errors_name_the_best_guess_and_eight_alternatives_at_most_and_show_no_usage(
    words: list[str], guess: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = printed(capsys, *words, code=2)
    assert f"Did you mean '{guess}'?" in said
    assert said.count(", ") <= 10
    assert "usage:" not in said


def test_help_of_a_command_says_every_default(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(capsys, "help", "run").split())
    assert text == " ".join(printed(capsys, "run", "-h").split())
    for default in ("(default: quick)", "(default: 0)", "(default: auto)", "(default: real)", "(default: runs)"):
        assert default in text
    assert "(default: 0)" in printed(capsys, "show", "-h")
    assert "commands:" in printed(capsys, "help")


def test_completion_knows_commands_options_and_names(capsys: pytest.CaptureFixture[str]) -> None:
    script = printed(capsys, "completion", "bash")
    assert "--show-board" in script
    for function, begin, wanted in (("protocols", "cifarfs_d", "cifarfs_delay5"), ("methods", "op", "opn")):
        done = subprocess.run(
            ["bash", "-c", f"{script}\n_harness_{function} {begin}"], capture_output=True, text=True, check=True
        )
        assert wanted in done.stdout.split()
    assert "#compdef harness" in printed(capsys, "completion", "zsh")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_lacks_a_character_gets_another(encoding: str) -> None:
    env = {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(cli.__file__).parents[2]), "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-m", "harness", "show", "opn"], capture_output=True, check=True, env=env)
    assert done.stdout.decode(encoding)
    script = "import sys; from harness.util.text import replace_unencodable as r; r(sys.stdout); print('1 ± 2 – 犬')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, env=env)
    assert done.stdout.decode(encoding) == ("1 +/- 2 - \\u72ac\n" if encoding == "ascii" else "1 ± 2 – \\u72ac\n")


def test_rows_of_one_method_are_told_apart_at_any_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = ["label delay told", "features pre-trained on classes"]
    whole = {"batch": "whole", "net": "dense"}
    for accuracy, options, rest in (
        (60.0, {**whole, "zero_cell": True, "zero_hidden": True}, {}),
        (55.0, whole, {}),
        (50.0, {**whole, "zero_cell": True}, {"train_episodes": 4000}),
        (45.0, {**whole, "zero_cell": True}, {"train_episodes": 9000, "recipe_hash": "e" * 64}),
    ):
        append_record(shipped_record(BOARD, accuracy, marks=marks, method="norml", options=options, **rest), tmp_path)
    append_record(shipped_record(BOARD, 40.0, marks=marks, method="opn"), tmp_path)
    monkeypatch.setenv("COLUMNS", "70")
    text = printed(capsys, "board", BOARD, "--boards", str(tmp_path))
    lines = text.split("\n\n")[2].splitlines()
    assert "options" not in lines[0]
    beneath = [line.strip() for line in lines if line.startswith(" " * 8) and ("=" in line or "episodes" in line)]
    assert beneath == [
        "zero_cell=true, zero_hidden=true",
        "zero_cell=true, 4,000 training episodes",
        "zero_cell=true, 9,000 training episodes",
    ]
    assert not re.search(r"^ {8}\w", printed(capsys, "board", BOARD, "--boards", str(tmp_path), "--wide"), re.MULTILINE)


def test_the_list_of_tables_names_each_paper_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, "table", "--boards", str(tmp_path))
    assert text.count("NeurIPS 2021") == text.count("ICLR") == 1
    assert "\nlayer-distributed memory table 1   Omniglot and CIFAR-FS, 5-way online" in text
    assert widest(text) <= 80


def test_messages_are_wrapped_at_words_and_commands_stay_in_one_piece(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main(["show", "cifarfs_delay55"]) == 2
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith("harness: error: ")
    assert max(map(len, [first, *others])) <= 60
    assert others
    assert all(re.match(r"  \S", each) for each in others)
    command = "harness run p --method m --budget quick --time 4m --threads 1"
    more = "  and then `harness check m` or another 'name of it' say more"
    text = f"the scores are not kept; run it again: {command} (in its own folder)\n{more}"
    lines = message(text).splitlines()
    assert "  " + command in lines, "it can be pasted"
    assert any("`harness check m`" in each for each in lines)
    assert any("'name of it'" in each for each in lines)
    assert "\xa0" not in message(text)
    monkeypatch.delenv("COLUMNS")
    assert message(text) == text, "a file or a pipe takes any width"
