"""Recipe files as a whole: what `harness validate` refuses, where, and the JSON Schema that editors check them by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness import cli
from harness.method.registry import load_method
from harness.training.recipe_checks import check_recipe, recipe_named
from harness.training.recipe_file import recipe_files
from harness.training.recipe_schema import recipe_schema
from harness.util.errors import UserError
from harness.yaml_files.document import read_yaml

SCHEMA = Draft202012Validator(recipe_schema())


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", sorted(recipe_files()))
def test_the_shipped_recipes_hold_and_fit_the_schema(name: str) -> None:
    """A file in a folder is a family or the library of the recipe of that name, or one that several recipes extend."""
    path, folder = recipe_files()[name], name.rpartition("/")[0]
    SCHEMA.validate(read_yaml(path).data)
    if folder != "common":
        found = check_recipe(path)
        assert found.path == recipe_files()[folder or name]
        assert (found.method is None) == (name == "default")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "parts:\n  - quick: {}\n  - {when: {init: true}, quick: {}}",
            ":4:5: parts[1]: never taken: the part at mine.yaml:3:5",
        ),
        ("parts:\n  - {when: {kind: [contnual]}, quick: {}}", "no kind 'contnual'. Did you mean 'continual'?"),
        ("parts: [{smoke: {}, full: {options: {chanels: 3}}}]", ":2:47: parts[0].full.options.chanels: OPN has no"),
        (
            "parts: [{smoke: {options: {channels: many}}}]",
            ":2:38: parts[0].smoke.options.channels: OPN: option channels",
        ),
        (
            "parts: [{quick: {stages: [{name: a, episodes: 1, episode: {queries: 2}}]}}]",
            ":2:27: parts[0].quick.stages[0]: a stage of the recipe changes 'episode.queries'",
        ),
    ],
)
def test_what_is_wrong_is_reported_at_its_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        check_recipe(written(Path(), f"method: opn\n{text}\n"))
    assert said in str(caught.value)


def test_everything_that_is_wrong_is_reported_at_once_in_order_of_lines(tmp_path: Path) -> None:
    text = "method: opn\nparts:\n  - quick: {options: {a: 1}}\n  - full: {options: {b: 1}}\n"
    with pytest.raises(UserError) as caught:
        check_recipe(written(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 problems"
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "parts[0].quick.options.a",
        "parts[1]",
        "parts[1].full.options.b",
    ]


def test_a_recipe_is_told_from_a_protocol_by_its_keys(tmp_path: Path) -> None:
    assert recipe_named("opn") == recipe_files()["opn"]
    assert recipe_named("cifarfs_delay5") is None
    for text, recipe in (
        ("method: opn\n", True),
        ("extends: opn\n", True),
        ("extends: cifarfs_delay5\n", False),
        ("extends: mine.yaml\n", True),
        ("kind: continual\nstages: 3\n", False),
        ("title: nothing\n", False),
        ("a: [", False),
    ):
        written(tmp_path, "parts: []\n")
        assert (recipe_named(str(written(tmp_path, text, "it.yaml"))) is not None) is recipe, text


def test_the_command_says_what_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path(), "method: mine\nfamilies: [mine/all.yaml]\n")
    written(Path(), "parts: [{smoke: {options: {channels: 4}}}]\n", "mine/all.yaml")
    assert cli.main(["validate", "mine.yaml", "mine/all.yaml", "opn", "cifarfs_delay5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mine.yaml: ok: recipe of mine, 1 part, budgets smoke, options not checked (--method")
    assert lines[1].startswith("mine/all.yaml: ok as part of mine.yaml: recipe of mine, 1 part")
    assert "recipe of opn" in lines[2]
    assert "options checked, tried on 20 shipped protocols" in lines[2]
    assert ": ok: delayed_label" in lines[3]
    assert cli.main(["validate", "mine.yaml", "--method", "opn"]) == 2
    assert "this is a recipe of 'mine', not of 'opn'" in capsys.readouterr().err


def test_options_are_those_of_the_method_that_is_named(tmp_path: Path) -> None:
    method = tmp_path / "own.py"
    method.write_text(
        "from harness import Method\n\n\nclass Own(Method):\n    def __init__(self, task, depth: int = 2): ...\n"
    )
    path = written(tmp_path, "method: own\nparts: [{quick: {options: {depth: deep}}}]\n", "own.yaml")
    with pytest.raises(UserError, match=r"own.yaml:2:35: .*option depth"):
        check_recipe(path, load_method(f"{method}:Own"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"methd": "a"},
        {"parts": []},
        {"parts": [{}]},
        {"parts": [{"quick": {"stages": [{"name": "a"}]}}]},
        {"parts": [{"quick": {"stages": [{"name": "a", "episodes": 0}]}}]},
        {"parts": [{"quick": {"stages": [{"name": "a", "episodes": [1, "b"]}]}}]},
        {"parts": [{"quick": {"batch": 0}}]},
        {"parts": [{"quick": {"optimizer": {"lr": 1e300}}}]},
        {"stages": {"a": 3}},
    ],
)
def test_the_schema_refuses_what_no_recipe_can_be(wrong: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid({"method": "mine", **wrong})


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "recipe"]) == 0
    assert '"title": "training recipe of a method"' in capsys.readouterr().out
