"""`--json`: every command that prints facts has it, and prints one JSON document on stdout and nothing beside it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from harness import cli
from harness.cli.parser import Parser

WITHOUT = {
    "schema": "prints JSON and nothing else",
    "completion": "prints a script",
    "view": "serves pages until it is stopped",
}
"""Commands without --json, and why."""

BOARD = "cifarfs_delay5"


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert cli.main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", sorted(cli.COMMANDS.keys() - WITHOUT))
def test_every_command_that_prints_facts_prints_them_as_json(name: str) -> None:
    module, line = cli.COMMANDS[name]
    parser = Parser(prog=name, description=line)
    importlib.import_module(module).add_arguments(parser)
    assert "--json" in {option for action in parser._actions for option in action.option_strings}


def test_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(f"extends: {BOARD}\nepisode: {{ways: 0}}\nscoring: {{shots: [1], shot: 2}}\n")
    protocol, recipe, missing, broken = printed(capsys, "validate", BOARD, "opn", "nope", str(wrong), code=2)
    assert (protocol["what"], protocol["kind"], protocol["valid"]) == ("protocol", "delayed_label", True)
    assert (recipe["what"], recipe["method"], recipe["problems"]) == ("recipe", "opn", [])
    assert missing["problems"][0]["message"].startswith("there is no protocol 'nope'")
    assert [(each["line"], each["key"]) for each in broken["problems"]] == [(2, "episode.ways"), (3, "scoring.shot")]


@pytest.mark.parametrize(
    ("source", "missing", "then"),
    [
        ("folder: photos/birds", "there is no folder 'photos/birds'", "class 'train0'"),
        ("parquet: birds/*.parquet", "there is no file 'birds/*.parquet'", ""),
        ("hub: somebody/birds", "", ""),
    ],
)
def test_validate_says_whether_one_s_own_data_are_there(
    source: str, missing: str, then: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"train": 6, "validation": 5, "test": 5}
    classes = "".join(f"    {name}: [{', '.join(f'{name}{i}' for i in range(n))}]\n" for name, n in names.items())
    own = tmp_path / "birds.yaml"
    own.write_text(
        "kind: n_way_k_shot\ntitle: Birds\nepisode: {ways: 5, shots: 1, queries: 2}\nscoring: {test_episodes: 4}\n"
        f"dataset:\n  name: birds\n  {source}\n  size: 8\n  classes:\n{classes}"
    )
    (found,) = printed(capsys, "validate", str(own))
    assert found["valid"]
    assert missing in found["data_problem"]
    assert bool(missing) == bool(found["data_problem"])
    (found,) = printed(capsys, "validate", str(own), "--data-root", str(tmp_path / "nowhere"))
    assert found["valid"]
    (tmp_path / "photos" / "birds" / "test0").mkdir(parents=True)
    (tmp_path / "photos" / "birds" / "test0" / "1.png").touch()
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "a.parquet").touch()
    (found,) = printed(capsys, "validate", str(own))
    assert then in found["data_problem"]
    assert bool(then) == bool(found["data_problem"])


def test_validate_looks_at_own_data_as_far_as_no_image_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "birds.yaml"
    text = (
        "kind: n_way_k_shot\ntitle: Birds\nepisode: {ways: 1, shots: 1, queries: 2}\nscoring: {test_episodes: 4}\n"
        "dataset: {name: birds, SOURCE, size: 8, classes: {train: [a], test: [b]}}\n"
    )
    own.write_text(text.replace("SOURCE", "folder: photos"))
    for name, images in (("a", 3), ("b", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(images):
            (tmp_path / "photos" / name / f"{number}.png").touch()
    (found,) = printed(capsys, "validate", str(own))
    assert "3 images of a class in an episode, but class 'b' of birds (test) has 2" in found["data_problem"]
    (tmp_path / "photos" / "b" / "2.png").touch()
    assert not printed(capsys, "validate", str(own))[0]["data_problem"]
    table = pa.table({"img": [b""], "label": ["a"]})
    parquet.write_table(table, tmp_path / "birds.parquet")
    own.write_text(text.replace("SOURCE", "parquet: birds.parquet"))
    (found,) = printed(capsys, "validate", str(own))
    assert "there is no column 'image', did you mean 'img'? (it has img, label)" in found["data_problem"]


def test_validate_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cyclic.yaml").write_text(
        "extends: omniglot_delay5\nepisode: {ways: 5, label_delay: 5, order: cyclic}\nscoring: {test_episodes: 50}\n"
    )
    words = ("--strict", "--cache", str(tmp_path), "--data-root", str(tmp_path))
    (found,) = printed(capsys, "validate", str(tmp_path / "cyclic.yaml"), *words, code=3)
    assert "copy_last" in " ".join(each["message"] for each in found["findings"])


def test_export(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "episodes.jsonl"
    words = ("--out", str(out), "--episodes", "2", "--data", "stand-in", "--cache", str(cache))
    found = printed(capsys, "export", BOARD, *words)
    assert (found["episodes"], found["steps"], found["file"]) == (2, 100, str(out))
    assert found["digest"].startswith(json.loads(out.read_text().splitlines()[0])["digest"])


def test_verify_lists_what_rows_allow(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = printed(capsys, "verify", BOARD, "--list", "--row", "1")
    assert (found["method"], found["row"]) == ("chance", 1)
    assert "no weights" in found["allows"]
    assert "outcome" not in found


def test_new_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "new-method", "fast_weights", "--into", str(tmp_path))
    assert found["method"] == f"{tmp_path / 'fast_weights.py'}:FastWeights"
    assert Path(found["test"]).is_file()


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = printed(capsys, "report", BOARD, "--out", str(tmp_path))["pages"]
    assert any(BOARD in page for page in pages)
    assert all(Path(page).is_file() for page in pages)
