"""The command line: fast to start, errors for people, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harness import __version__, cli
from harness.cli.parser import Parser
from harness.util.errors import UserError
from harness.util.shipped_files import protocol_files

HEAVY = ("torch", "torchvision", "pandas", "datasets", "pyarrow", "numpy", "pydantic")


def modules_after(*words: str) -> tuple[set[str], str]:
    """Which heavy modules a command imports, in a process of its own, and what it prints."""
    script = (
        "import sys; from harness.cli import main; code = main(sys.argv[1:]);"
        f"print('HEAVY', code, *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    text, _, last = done.stdout.rpartition("HEAVY ")
    code, *heavy = last.split()
    assert code == "0", done.stderr
    return set(heavy), text


@pytest.mark.parametrize(
    "words", [["-h"], ["--version"], ["run", "-h"], ["validate", "-h"], ["list"], ["list", "methods", "--json"]]
)
def test_help_and_lists_import_nothing_heavy(words: list[str]) -> None:
    heavy, text = modules_after(*words)
    assert not heavy
    assert text


@pytest.mark.parametrize(
    "words",
    [
        ["show", "-h"],
        ["export", "-h"],
        ["show", "cifarfs_delay5"],
        ["schema"],
        ["board", "cifarfs_delay5"],
        ["table", "norml", "2"],
    ],
)
def test_showing_does_not_import_torch(words: list[str], tmp_path: Path) -> None:
    if words == ["show", "cifarfs_delay5"]:
        words = [*words, "--cache", str(tmp_path)]
    heavy, _ = modules_after(*words)
    assert not heavy & {"torch", "torchvision", "pandas", "datasets"}


def test_python_m_harness_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "harness", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"harness {__version__}\n"
    bad = subprocess.run([sys.executable, "-m", "harness", "shwo"], capture_output=True, text=True)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("harness: error: unknown command 'shwo'. Did you mean 'show'?")


def test_every_command_of_the_table_can_be_imported_and_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-h"]) == 0
    top = " ".join(capsys.readouterr().out.split())
    for name, (_, line) in cli.COMMANDS.items():
        assert f"{name} " in top
        assert line in top
        assert cli.main([name, "-h"]) == 0
        assert f"usage: harness {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lst"], "unknown command 'lst'. Did you mean 'list'?"),
        (["--verison"], "unknown option '--verison'. Did you mean '--version'?"),
        (
            ["list", "metods"],
            "topic cannot be 'metods'. Did you mean 'methods'? Allowed: protocols, methods, datasets.",
        ),
        (["list", "--csv"], "--csv prints one table; say which: protocols, methods, datasets"),
        (["list", "--jsn"], "unknown option of 'harness list' '--jsn'. Did you mean '--json'?"),
        (["export", "cifarfs_delay5", "--episods", "5"], "Did you mean '--episodes'?"),
        (["export", "cifarfs_delay5"], "the following arguments are required: --out"),
        (["show", "cifarfs_delay5", "--data", "stand_in"], "--data cannot be 'stand_in'. Did you mean 'stand-in'?"),
        (["show", "cifarfs_delay5", "--episode", "-1"], "expected a whole number from 0 to 10^18 - 1, found '-1'"),
        (["run", "cifarfs_delay5", "--method", "opn", "--time", "-5s"], "--time is '-5s'; write it as 90s, 10m or 2h"),
        (["run", "cifarfs_delay5", "--method", "opn", "--time", "-q"], "argument --time: expected one argument"),
        (
            ["run", "cifarfs_delay5", "--method", "opn", "--lr", "-1e-3"],
            "--lr: found -0.001, expected a number greater than 0",
        ),
        (["show", "cifarfs_delay5", "--episode", "two"], "expected a whole number from 0 to 10^18 - 1, found 'two'"),
        (["show", "opn", "--seed", "0"], "--seed is for an episode of a protocol, and opn is a method"),
        (["show", "opn", "--html", "x.html"], "--html is for an episode of a protocol, and opn is a method"),
        (["show", "means.py"], "'means.py' names a file but no class; write means.py:ClassName"),
        (["show", "cifarfs_dely5"], "Did you mean 'cifarfs_delay5'?"),
        (["validate"], "the following arguments are required: FILE"),
        (["schema", "--out", "protocols/x.yaml"], "must end in .json"),
        (["schema", "--out", "nowhere/x.json"], "there is no folder 'nowhere'"),
    ],
)
def test_wrong_use_exits_with_2_and_names_what_was_meant(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("harness: error: ")
    assert said in err
    assert "Traceback" not in err


def test_no_command_shows_the_help_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    for words in (["--debug", "show", "nothing"], ["show", "nothing", "--debug"]):
        with pytest.raises(UserError):
            cli.main(words)


@pytest.mark.parametrize("columns", [80, 140])
def test_help_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in (["-h"], *(["help", name] for name in cli.COMMANDS)):
        assert cli.main(words) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= columns, words


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (PermissionError(13, "denied", "x"), 2), (OSError(28, "no space left", "x"), 1)],
)
def test_interruption_and_system_errors_have_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int
) -> None:
    from harness.cli import listing as command

    def fail(_: object) -> int:
        raise raised

    monkeypatch.setattr(command, "execute", fail)
    assert cli.main(["list"]) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "schema"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_option_of_one_letter_may_carry_its_value() -> None:
    parser = Parser("harness x", "x")
    parser.add_argument("-n", type=int)
    parser.add_argument("rest", nargs="*")
    args = parser.parse(["-n5", "a", "--", "--not-an-option"])
    assert args is not None
    assert (args.n, args.rest) == (5, ["a", "--not-an-option"])


def test_validate_shows_every_error_of_every_file_and_a_line_for_each_good_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text("kind: supervised\ntitle: 5\ndataset: cifar_f\n")
    Path("two.yaml").write_text("kind: [\n")
    assert cli.main(["validate", "one.yaml", "cifarfs_delay5", "two.yaml", "three.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "cifarfs_delay5.yaml: ok: delayed_label, digest 575b12fccd65, on cifar_fs, 5 classes" in out
    assert [line.split(": ")[0] for line in err.splitlines()] == [
        "one.yaml:2:8",
        "one.yaml:3:10",
        "two.yaml:2:1",
        "three.yaml",
        "harness",
    ]
    assert err.endswith("harness: 3 of 4 files cannot be used\n")


def test_validate_is_of_the_data_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["validate", "cifarfs_delay5", "--data", "stand-in"]) == 0
    assert ", on objects, " in " ".join(capsys.readouterr().out.split())
    Path("wide.yaml").write_text("extends: cifarfs_5way_online\nepisode: {ways: 30}\nscoring: {shots: [1]}\n")
    assert cli.main(["validate", "wide.yaml"]) == 2  # 20 classes there too
    Path("masks.yaml").write_text("extends: fss1000_distractors\nstand_in: glyphs\n")
    assert cli.main(["validate", "masks.yaml"]) == 0
    assert cli.main(["validate", "masks.yaml", "--data", "stand-in"]) == 2
    assert "masks cannot be run on its stand-in: dataset: kind" in " ".join(capsys.readouterr().err.split())


def test_validate_passes_all_shipped_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["validate", *protocol_files()]) == 0
    out, err = capsys.readouterr()
    assert out.count(": ok: ") == len(protocol_files())
    assert err == ""


def test_schema_is_printed_or_written_as_a_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["schema"]) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "protocol.json"
    out.write_text("old")
    assert cli.main(["schema", "--out", str(out), "--overwrite"]) == 0
    assert out.read_text() == printed
    assert json.loads(printed)["title"] == "episode protocol"
    assert list(tmp_path.iterdir()) == [out]


def test_list_names_everything_and_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert cli.main(["list", "--json"]) == 0
    everything = json.loads(capsys.readouterr().out)
    assert set(everything) == {"protocols", "methods", "datasets"}
    for topic, rows in everything.items():
        assert rows
        assert all(f"  {row['name']} " in text for row in rows)
        assert cli.main(["list", topic, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == rows
    assert {row["name"] for row in everything["protocols"]} == set(protocol_files())
    delayed = next(row for row in everything["protocols"] if row["name"] == "cifarfs_delay2")
    assert (delayed["kind"], delayed["dataset"]) == ("delayed_label", "cifar_fs")
    assert delayed["episode"] == {"ways": 5, "presentations": 10, "label_delay": 2}, "with what it extends"
    assert delayed["published"][0]["metrics"]["accuracy@shot=8"] == [60.0, 0.0]
    omniglot = next(row for row in everything["datasets"] if row["name"] == "omniglot")
    assert omniglot["classes"] == {"train": 4112, "validation": 688, "test": 1692}
    assert "4112/688/1692 classes (train/validation/test)" in text
    assert "100/100 classes (train/test)" in text


OWN = "dataset: {name: my_birds, folder: birds, size: 32, splits: {train: a, test: b}}\n"


@pytest.mark.parametrize(
    ("text", "cells", "shape"),
    [
        (
            "kind: online_few_shot\ntitle: T, t\ndataset: x\nepisode: {ways: 5}\nscoring: {shots: [1, 5]}\n",
            ["online_few_shot", "x", "5", "1,5", "1", "T, t"],
            (5, [1, 5], 1),
        ),
        (
            "kind: delayed_label\ndataset: x\nepisode: {ways: 2, label_delay: 9}\nscoring: {shots: [3]}\n",
            ["delayed_label", "x", "2", "3", "9", "-"],
            (2, [3], 9),
        ),
        (
            "kind: continual\ndataset: x\nepisode: {subtasks: 20, shots: 5, queries: 3}\n",
            ["continual", "x", "20", "5", "1", "-"],
            (20, 5, 1),
        ),
        (
            "kind: segmentation_distractors\ndataset: x\nepisode: {presentations: 9}\nscoring: {shots: [1, 6]}\n",
            ["segmentation_distractors", "x", "1+1", "1,6", "1", "-"],
            (1, [1, 6], 1),
        ),
        (
            "kind: segmentation_distractors\ndataset: x\nepisode: {distractor: false}\nscoring: {shots: [1]}\n",
            ["segmentation_distractors", "x", "1", "1", "1", "-"],
            (1, [1], 1),
        ),
        (
            "kind: n_way_k_shot\ndataset: x\nepisode: {ways: 20, shots: 1, queries: 15}\n",
            ["n_way_k_shot", "x", "20", "1", "-", "-"],
            (20, 1, None),
        ),
        (f"kind: supervised\n{OWN}", ["supervised", "my_birds", "-", "-", "-", "-"], (None, None, None)),
        ("kind: [5]\nepisode: 7\ndataset: {}\n", ["5", "-", "-", "-", "-", "-"], (None, None, None)),
    ],
)
def test_a_protocol_of_each_kind_is_listed_in_words_of_its_own(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    cells: list[str],
    shape: tuple[object, ...],
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setattr("harness.util.shipped_files.protocol_files", lambda: {"mine": tmp_path / "mine.yaml"})
    assert cli.main(["list", "protocols"]) == 0
    head, _, line = capsys.readouterr().out.splitlines()
    assert re.split(r" {2,}", head) == ["name", "kind", "data set", "ways", "shots", "delay", "title"]
    assert re.split(r" {2,}", line) == ["mine", *cells]
    assert cli.main(["list", "protocols", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["ways"], row["shots"], row["label_delay"]) == shape
    assert all(row[key] == value for key, value in yaml.safe_load(text).items())


def test_listed_protocols_stand_in_columns_in_the_order_people_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "protocols"]) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    continual = [name for name in names if name.startswith("omniglot_continual")]
    assert continual == [f"omniglot_continual{count}" for count in (5, 10, 15, 20)]
    for title in ("kind", "data set", "ways", "shots", "delay", "title"):
        column = head.index(title)
        assert all(line[column - 1] == " " and line[column] != " " for line in lines), title
