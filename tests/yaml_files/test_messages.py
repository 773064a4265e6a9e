"""Data that is YAML but not what the model asks for: each problem is said in plain words, at its line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from harness.yaml_files.document import YamlError, parse_yaml, read_yaml, validated


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["leaf"]
    size: Annotated[int, Field(strict=True, ge=1, description="how large")] = 1
    rate: float = 0.0
    on: bool = True
    colour: Literal["red", "green"] = "red"
    name: str | None = None
    mixed: dict[str, Annotated[float, Field(strict=True)] | list[float]] = {}
    pair: Annotated[list[float], Field(min_length=2, max_length=2)] = [0, 0]

    @field_validator("rate")
    @classmethod
    def _small(cls, rate: float) -> float:
        if rate > 9:
            raise ValueError(f"the rate is {rate}; it may be 9 at most")
        return rate


class Branch(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["branch"]
    children: list[Annotated[Leaf | Branch, Field(discriminator="kind")]]
    extra: Leaf | int | None = None

    @model_validator(mode="after")
    def _few(self) -> Branch:
        if not self.children:
            raise ValueError("children: a branch has some; a leaf has none; kind: make it a leaf; it is simpler")
        if len(self.children) > 3:
            raise ValueError(f"children: {len(self.children)} are too many; kind: a branch holds 3")
        return self


TREE: TypeAdapter[Leaf | Branch] = TypeAdapter(Annotated[Leaf | Branch, Field(discriminator="kind")])


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return path


def said(tmp_path: Path, text: str, also: tuple[str, ...] = ()) -> list[str]:
    path = written(tmp_path, text)
    with pytest.raises(YamlError) as caught:
        validated(parse_yaml(path), TREE, also)
    shown = [str(each).removeprefix(f"{path}:") for each in caught.value.problems]
    assert not any("pydantic" in line or "http" in line or "Input should" in line for line in shown)
    return shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size: five", '2:7: size: found "five" (text), expected a whole number of at least 1 (how large)'),
        (
            "size: '5'",
            '2:7: size: found "5" (text), expected a whole number of at least 1; remove the quotes (how large)',
        ),
        ("size: 0", "2:7: size: found 0, expected a whole number of at least 1 (how large)"),
        ("size: 2.5", "2:7: size: found 2.5, expected a whole number of at least 1 (how large)"),
        ("size: 1e3", "2:7: size: found 1000.0, expected a whole number of at least 1; write 1000 (how large)"),
        ("size: true", "2:7: size: found true, expected a whole number of at least 1 (how large)"),
        ("size:", "2:6: size: found nothing, expected a whole number of at least 1 (how large)"),
        ("on: maybe", '2:5: on: found "maybe" (text), expected true or false'),
        ("colour: rde", "2:9: colour: found \"rde\" (text), expected one of red, green; did you mean 'red'?"),
        ("name: 5", "2:7: name: found 5, expected text or null; put it in quotes"),
        ("rate: 10", "2:7: rate: the rate is 10.0; it may be 9 at most"),
        ("pair: [1]", "2:7: pair: found a list of 1, expected a list of 2 numbers"),
        ("pair: {}", "2:7: pair: found an empty mapping, expected a list of 2 numbers"),
        ("mixed: {a: x}", '2:12: mixed.a: found "x" (text), expected a number or a list of numbers'),
        ("mixed: {a: [1, x]}", '2:16: mixed.a[1]: found "x" (text), expected a number'),
        ("mixed: {a: {b: 1}}", "2:12: mixed.a: found a mapping with b, expected a number or a list of numbers"),
        ("mixed: [1]", "2:8: mixed: found a list of 1, expected a mapping"),
        (
            "colur: red",
            "2:1: colur: unknown key. Did you mean 'colour'? "
            "Allowed here: kind, size, rate, on, colour, name, mixed, pair",
        ),
    ],
)
def test_errors_of_a_model_are_in_plain_words(tmp_path: Path, text: str, expected: str) -> None:
    assert said(tmp_path, f"kind: leaf\n{text}\n") == [expected]


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    leaf = validated(read_yaml(written(tmp_path, "kind: leaf\nrate: 5\nmixed: {a: 55, b: [1, 2]}\n")), TREE)
    assert isinstance(leaf, Leaf)
    assert (leaf.rate, leaf.mixed) == (5.0, {"a": 55.0, "b": [1.0, 2.0]})


def test_a_missing_key_is_reported_at_the_mapping_that_lacks_it(tmp_path: Path) -> None:
    assert said(tmp_path, "\nkind: branch\n") == ["2:1: children: missing; expected a list of mappings"]
    assert said(tmp_path, "kind: branch\nchildren:\n  - size: 1\n")[0].startswith(
        "3:5: children[0].kind: missing. Did you mean 'leaf'? Known: leaf, branch"
    )


def test_an_unknown_kind_is_guessed_and_the_rest_is_checked_as_the_guess(tmp_path: Path) -> None:
    assert said(tmp_path, "kind: leav\nsize: 0\n") == [
        "1:7: kind: found \"leav\" (text), which is not a kind. Did you mean 'leaf'? Known: leaf, branch",
        "2:7: size: found 0, expected a whole number of at least 1 (how large)",
    ]
    for odd in ("5", "[leaf]", "", "{a: 1}"):
        assert "which is not a kind." in said(tmp_path, f"kind: {odd}\n")[0]


def test_a_missing_kind_is_guessed_from_the_keys(tmp_path: Path) -> None:
    assert said(tmp_path, "size: 3\n") == ["1:1: kind: missing. Did you mean 'leaf'? Known: leaf, branch"]


def test_errors_inside_nested_unions_are_placed_in_the_data(tmp_path: Path) -> None:
    text = (
        "kind: branch\n"
        "children:\n"
        "  - {kind: leaf, size: 0}\n"
        "  - kind: branch\n"
        "    children: [{kind: leaf, leaf: 1}]\n"
        "    branch: 2\n"
        "extra: {kind: leaf, size: x}\n"
    )
    shown = said(tmp_path, text)
    assert [line.split(": ")[:2] for line in shown] == [
        ["3:24", "children[0].size"],
        ["5:29", "children[1].children[0].leaf"],
        ["6:5", "children[1].branch"],
        ["7:27", "extra.size"],
    ]


def test_a_validators_sentences_go_to_the_keys_they_name(tmp_path: Path) -> None:
    leaves = "".join("  - {kind: leaf}\n" for _ in range(4))
    assert said(tmp_path, f"kind: branch\nchildren:\n{leaves}") == [
        "1:7: kind: a branch holds 3",
        "3:3: children: 4 are too many",
    ]


def test_a_sentence_that_names_no_key_stays_with_the_one_before(tmp_path: Path) -> None:
    assert said(tmp_path, "kind: branch\nchildren: []\n") == [
        "1:7: kind: make it a leaf; it is simpler",
        "2:11: children: a branch has some; a leaf has none",
    ]


def test_keys_of_the_loader_itself_are_allowed_and_offered(tmp_path: Path) -> None:
    shown = said(tmp_path, "kind: leaf\nextends: x\nextend: y\n", also=("extends",))
    assert len(shown) == 1
    assert "extend: unknown key. Did you mean 'extends'?" in shown[0]


def test_problems_of_the_text_and_of_the_model_are_shown_together_but_not_twice(tmp_path: Path) -> None:
    shown = said(tmp_path, "kind: leaf\nsize: yes\ncolour: blue\ncolour: red\n")
    assert [line.split(":")[0] for line in shown] == ["2", "3", "4"]
    assert "some readers take yes for true" in shown[0]
