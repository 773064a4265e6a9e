"""YAML files: every value has its line, traps and repeated keys are refused, whichever parser reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.yaml_files import nodes
from harness.yaml_files.document import YamlError, parse_yaml, read_yaml
from harness.yaml_files.scalars import Trap, scalar

PARSERS = nodes.PARSERS


@pytest.fixture(scope="module", autouse=True, params=["as installed", "without libyaml"])
def _every_parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """PyYAML may come without libyaml: all that is said of a file must be the same."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "without libyaml":
            patch.setattr(nodes, "PARSERS", nodes.PARSERS[-1:])
        yield


def written(tmp_path: Path, text: str | bytes, name: str = "a.yaml") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    """What is said of a YAML text, without the path."""
    path = written(tmp_path, text)
    with pytest.raises(YamlError) as caught:
        read_yaml(path)
    assert caught.value.exit_code == 2
    return [str(each).removeprefix(str(path)).lstrip(":") for each in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5e-2", 0.005),
        ("+1.5", 1.5),
        ("3.", 3.0),
        ("-7", -7),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("y", "y"),
        ("2024-01-31", "2024-01-31"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("v1.0", "v1.0"),
        ("nan", "nan"),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_unquoted_words_mean_what_they_look_like(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("yes", "write true"),
        ("No", "write false"),
        ("on", "write true"),
        ("OFF", "write false"),
        ("010", "write 10"),
        ("-08", "write 8"),
        ("00", "write 0"),
        ("0x1F", "(31)"),
        ("0o17", "(15)"),
        ("1:30", "base 60"),
        ("1_000", "write 1000"),
        ("1_0.5e1_0", None),
        (".inf", "not a finite number"),
        (".nan", "not a finite number"),
        ("1e999", "too large"),
        ("9223372036854775808", "too large"),
        ("1" * 10_000, "too large"),
    ],
)
def test_words_that_readers_disagree_on_are_refused_with_what_to_write(text: str, advice: str | None) -> None:
    if advice is None:
        assert scalar(text) == text
        return
    with pytest.raises(Trap) as caught:
        scalar(text)
    assert advice in str(caught.value)
    assert len(str(caught.value)) < 150


def test_a_refused_word_is_accepted_in_quotes_and_as_a_key(tmp_path: Path) -> None:
    text = "on: 'yes'\nyes: \"010\"\nno: |\n  off\n"
    assert read_yaml(written(tmp_path, text)).data == {"on": "yes", "yes": "010", "no": "off\n"}


def test_every_key_and_value_keeps_its_line_and_column(tmp_path: Path) -> None:
    document = read_yaml(written(tmp_path, "# note\na: 1\nb:\n  c: [10, 20]\n  d: {e: x}\n"))
    assert document.data == {"a": 1, "b": {"c": [10, 20], "d": {"e": "x"}}}
    assert document.line_of(("a",)) == (2, 4)
    assert document.line_of(("b", "c", 1)) == (4, 11)
    assert document.line_of(("b", "d", "e")) == (5, 10)
    key = document.place(("b", "c"), at_key=True)
    assert (key.line, key.column) == (4, 3)
    assert document.line_of(("b", "c", 7)) == (4, 3), "what is not there stands at the key around it"
    assert document.line_of(("z",)) == (2, 1)


def test_all_repeated_keys_are_reported_with_both_lines(tmp_path: Path) -> None:
    said = problems(tmp_path, "a: 1\nb:\n  c: 1\n  c: 2\n  'c': 3\na: 2\n")
    assert said == [
        "4:3: b.c: the key is given twice; it was first given on line 3",
        "5:3: b.c: the key is given twice; it was first given on line 3",
        "6:1: a: the key is given twice; it was first given on line 1",
    ]


def test_repeated_keys_traps_and_tags_are_reported_together(tmp_path: Path) -> None:
    said = problems(tmp_path, "a: yes\nb: !!python/object/apply:os.system [ls]\na: 010\nc: !x 1\n")
    assert [line.split(":")[0] for line in said] == ["1", "2", "3", "4"]
    assert "tags are not allowed, found !!python/object/apply:os.system" in said[1]
    assert "tags are not allowed, found !x" in said[3]


def test_a_harmless_tag_is_refused_too(tmp_path: Path) -> None:
    assert "found !!str" in problems(tmp_path, "a: !!str 010\n")[0]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == ["1:1: the file is empty"]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("- a\n- b\n", "1:1", "must be a mapping (lines of 'key: value'), found a list"),
        ("\njust words\n", "2:1", "found text"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document begins here"),
        ("a: 1\n\tb: 2\n", "2:1", "a tab cannot indent YAML; use spaces"),
        ("a: b: c\n", "1:5", "text with ': ' in it must be quoted"),
        ("title: @home\n", "1:8", "text that begins with @ must be quoted"),
        ("a: {b: 1\nc: 2\n", "2:2", "a ',' or the closing } is missing (in what begins on line 1)"),
        ("a: [1, 2\nb: 1\n", "2:2", "a ',' or the closing ] is missing (in what begins on line 1)"),
        ('a: "b\nc: 1\n', "3:1", "a quotation has no closing quote (in what begins on line 1)"),
        ("a: *b\n", "1:4", "the alias *b has no anchor &b before it"),
        ("a:\n    b: 1\n  c: 2\n", "3:3", "does not line up with the lines above"),
        ("a: 1\nb\nc: 2\n", "3:1", "a key without ':'"),
        ("a: 1\nb: \x01\n", "2:4", "the character U+0001 is not allowed"),
        ("? [1, 2]\n: 3\n", "1:3", "a key must be text, found a list or mapping"),
    ],
)
def test_text_that_is_not_a_mapping_is_refused_at_its_line(tmp_path: Path, text: str, line: str, said: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"{line}:")
    assert said in problem


def test_text_that_is_not_utf8_is_refused_at_its_byte(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "a: 1\ntitle: caf\xe9\n".encode("latin-1"))
    assert problem.startswith("2:11: not UTF-8 text (byte 0xe9)")
    assert problems(tmp_path, "a: 1".encode("utf-16"))[0].startswith("1:1: not UTF-8")


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    document = read_yaml(written(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: x\r\n"))
    assert document.data == {"a": 1, "b": "x"}
    assert document.line_of(("b",)) == (2, 4)


def test_a_missing_file_a_directory_and_a_huge_file_are_named(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "no.yaml", "there is no such file"),
        (tmp_path, "is a directory"),
        (written(tmp_path, b"#" * (5 * 2**20), "huge.yaml"), "is larger than 4 MiB"),
    ):
        with pytest.raises(YamlError, match=said) as caught:
            read_yaml(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_anchors_and_merges_are_read(tmp_path: Path) -> None:
    text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\nx:\n  <<: [*base, *more]\n  a: 9\nlist: *base\n"
    document = read_yaml(written(tmp_path, text))
    assert document.data["x"] == {"a": 9, "b": 2, "c": 4}
    assert document.data["list"] == {"a": 1, "b": 2}
    assert document.line_of(("x", "a"))[0] == 5
    assert document.line_of(("x", "b"))[0] == 1, "a merged value stands where it was written"
    assert document.data == yaml.safe_load(text)


def test_a_problem_under_an_anchor_is_reported_once_however_often_it_is_used(tmp_path: Path) -> None:
    said = problems(tmp_path, "a: &a {b: 1, b: 2}\nc:\n  <<: *a\nd:\n  <<: 5\n")
    assert sum("given twice" in line for line in said) <= 2
    assert any("d.<<: '<<' takes an alias" in line for line in said)


def test_aliases_cannot_blow_up_and_cannot_hold_themselves(tmp_path: Path) -> None:
    laughs = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert "more than 50000 values" in problems(tmp_path, laughs)[0]
    assert "an alias stands for something that holds it" in problems(tmp_path, "a: &a [1, *a]\n")[0]


def test_deep_nesting_is_an_error_not_a_crash(tmp_path: Path) -> None:
    assert "nested too deeply" in problems(tmp_path, "a: " + "[" * 5000 + "]" * 5000)[0]


@given(st.text(st.sampled_from("ab01:- \n\t{}[],&*!|>'\"#?%@~<.\u00e9"), max_size=60) | st.binary(max_size=40))
def test_any_file_is_read_or_refused_with_an_error_for_people(
    tmp_path_factory: pytest.TempPathFactory, text: str | bytes
) -> None:
    path = written(tmp_path_factory.mktemp("any"), text)
    try:
        data, said = read_yaml(path).data, None
    except YamlError as error:
        data, said = None, error.problems
    assert isinstance(data, dict) or (said and all(problem.message for problem in said))


PIECES = (
    *(
        "a: ",
        "b: ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "\n- ",
        " ",
        "\t",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        ":",
        "'",
        '"',
        "#",
        " # c",
    ),
    *(
        "&x ",
        "*x",
        "<<: *x",
        "!t ",
        "!!str ",
        "|",
        ">-",
        "\n  x\n",
        "? ",
        "%YAML 1.1\n",
        "---\n",
        "...\n",
        "@",
        "~",
        "yes",
    ),
    *("010", "\\n", "\\x41", "\u00e9", "\ufeff", "\x85", "\u2028", "\r\n", "http://x", "\U0001f600", "text with words"),
)


def check_that_parsers_agree(path: Path) -> None:
    """With libyaml and without it: the same data, places and problems."""
    found: list[object] = []
    for parsers in (PARSERS, PARSERS[-1:]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nodes, "PARSERS", parsers)
            try:
                document = parse_yaml(path)
                found.append((document.data, document.keys, document.values, document.problems))
            except YamlError as error:
                found.append(error.problems)
    assert found[0] == found[1]


@given(st.lists(st.sampled_from(PIECES), max_size=14), st.booleans())
def test_libyaml_reads_what_the_slow_parser_reads(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], mapping: bool
) -> None:
    text = ("k: " if mapping else "") + "".join(pieces)
    check_that_parsers_agree(written(tmp_path_factory.mktemp("any"), text))


@pytest.mark.parametrize(
    "text",
    [
        "a: b\tc\n",
        "a: {b? c: 1}\n",
        "? ",
        "a: |# c\n",
        "a: >-# c\n",
        "a: # c\u2028\ufeff",
        "a: {b: , c: 1}\n",
    ],
)
def test_what_libyaml_would_read_otherwise_is_left_to_the_slow_parser(tmp_path: Path, text: str) -> None:
    check_that_parsers_agree(written(tmp_path, text))


def test_a_text_is_split_by_libyaml_where_it_is_there() -> None:
    names = [parser.__name__ for parser in PARSERS]
    assert names == (["CBaseLoader", "BaseLoader"] if yaml.__with_libyaml__ else ["BaseLoader"])


@pytest.mark.parametrize("text", ['a: "\\ud800"\n', '"\\udfff": 1\n', 'a: [1, {b: "x\\ud834"}]\n'])
def test_half_a_character_is_refused_at_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "half.yaml"
    path.write_text(text)
    with pytest.raises(YamlError, match=r"half.yaml:1:\d+: .*half of a character"):
        parse_yaml(path)
