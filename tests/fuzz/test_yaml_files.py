"""Protocols and recipes that were spoilt: used, or refused in words with a file and a line; never a traceback.

A thousand cases in CI, the same ones every time. On demand many more, new ones every time:

    FUZZ=20 python -m pytest tests/fuzz
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.protocol.load import load_protocol
from harness.training.recipe import BUDGETS
from harness.training.recipe_file import load_budget
from harness.util.errors import UserError
from harness.util.shipped_files import protocol_files, recipes_dir
from tests.helpers.commands import ended, within_seconds
from tests.helpers.mutations import mutated_text, settings

pytestmark = pytest.mark.slow

PROTOCOLS = {name: path.read_text() for name, path in protocol_files().items()}
# What they extend is named as shipped, since they are tried in another folder.
RECIPES = {
    path.stem: re.sub(r"^extends: ([\w/]+)\.yaml$", r"extends: \1", path.read_text(), flags=re.MULTILINE)
    for path in sorted(recipes_dir().glob("*.yaml"))
}
OWN = """\
kind: online_few_shot
title: Birds of my garden, 3-way online
dataset:
  name: garden_birds
  folder: photos/birds
  mask: '{stem}_mask.png'
  size: [64, 48]
  channels: 1
  classes:
    train: [robin, wren, kite]
    validation: [owl, rook, crow]
    test: [jay, tit, lark]
stand_in: objects
episode: {ways: 3, presentations: 4}
scoring: {shots: [1, 3], test_episodes: 200}
"""
CHILD = "extends: {parent}.yaml\ntitle: another\nepisode: {{ways: 3}}\nscoring:\n  test_episodes: 7\n"
LOADED = {name: load_protocol(name) for name in PROTOCOLS}


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without data or files of another test, where no data set can be found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


def ending(*words: str) -> tuple[int, str]:
    """The exit code of a command in this process and what it said on stderr."""
    code, _, err = ended(*words)
    return code, err


def write(text: str, name: str = "mine.yaml") -> None:
    Path(name).write_bytes(text.encode("utf-8", "surrogatepass"))


def check_validate(file: str) -> bool:
    """Validates a file: whether it can be used. If not, every line that is said begins with a file and a line."""
    code, said = ending("validate", file)
    assert code in (0, 2), said
    if code == 0:
        assert said == ""
        return True
    *problems, last = said.splitlines()
    assert problems
    assert last == "harness: 1 of 1 files cannot be used"
    assert re.match(r"[\w/.-]+\.yaml:[1-9]\d*:[1-9]\d*: ", problems[0]), said
    return False


@settings(500)
@given(st.sampled_from(sorted(PROTOCOLS)).flatmap(lambda name: mutated_text(PROTOCOLS[name])))
def test_a_spoilt_protocol_is_used_or_refused_at_its_line(text: str) -> None:
    write(text)
    check_validate("mine.yaml")


@settings(150)
@given(mutated_text(OWN))
def test_a_spoilt_protocol_on_ones_own_data_is_used_or_refused_at_its_line(text: str) -> None:
    write(text)
    if check_validate("mine.yaml"):
        for command in ("show", "lint"):
            code, said = ending(command, "mine.yaml")
            assert code in (0, 2, 3), said


@settings(100)
@given(
    st.sampled_from(sorted(PROTOCOLS)).flatmap(
        lambda name: st.tuples(
            mutated_text(PROTOCOLS[name]) | st.just(PROTOCOLS[name]), mutated_text(CHILD.format(parent="parent"))
        )
    )
)
def test_a_spoilt_pair_of_files_is_used_or_refused_at_its_line(texts: tuple[str, str]) -> None:
    write(texts[0], "parent.yaml")
    write(texts[1], "child.yaml")
    check_validate("child.yaml")


@settings(75)
@given(st.sampled_from(sorted(PROTOCOLS)).flatmap(lambda name: mutated_text(PROTOCOLS[name])))
def test_a_spoilt_protocol_is_shown_and_linted_without_a_traceback(text: str) -> None:
    write(text)
    usable = check_validate("mine.yaml")
    for command in ("show", "lint"):
        code, said = ending(command, "mine.yaml")
        assert code in ((0, 2, 3) if usable else (2,)), said


@settings(200)
@given(
    st.sampled_from(sorted(RECIPES)).flatmap(lambda name: mutated_text(RECIPES[name])),
    st.sampled_from(sorted(LOADED)),
    st.sampled_from(BUDGETS),
)
def test_a_spoilt_recipe_is_used_or_refused_at_its_line(text: str, protocol: str, budget: str) -> None:
    write(text, "recipe.yaml")
    refusal = ""
    try:
        with within_seconds():
            load_budget(Path("recipe.yaml"), LOADED[protocol], budget)
    except UserError as error:
        refusal = re.sub(r"^\d+ problems\n", "", str(error))
    # What is wrong may only show where a file that it extends takes something over.
    assert not refusal or re.match(r"(recipe|\S*/recipes/common/\w+)\.yaml:[1-9]\d*:[1-9]\d*: ", refusal), refusal
