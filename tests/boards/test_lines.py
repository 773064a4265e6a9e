"""Lines of boards: those that were written here are read in one pass, which takes no line that the other would not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from harness.boards import lines
from harness.boards.lines import line_of, record_in
from harness.boards.pieces import Pieces
from harness.boards.store import read_board
from harness.records.canonical import canonical_json, sha256_of
from tests.helpers.boards import record

BOARDS = Path(__file__).parents[2] / "leaderboards"

PIECES = Pieces()

NUMBERS = [0, -1, 1, 1.0, -0.0, 1e300, 2**63, 101.0]
TEXTS = ["", "x", "a\x1b", "ж", "c" * 64, "2026-01-01", 'a":b']
VALUES: list[Any] = [None, True, False, *NUMBERS, *TEXTS, [], [1.0, 2], ["a", "a"], [101.0], ["stand-in"], {}, {"a": 1}]


def whole() -> dict[str, Any]:
    """The content of a record in which every optional part is there."""
    features = {"key": "e" * 64, "reused": False, "episodes": 1, "updates": 1, "seconds": 1.0}
    isolated = {"confined": "bubblewrap", "episodes": 10, "fresh": True}
    content = record(options={"widths": [1, {"a": 2.5}], "name": "x"}).model_dump(mode="json")
    return {**content, "pretrained": [features], "isolated": isolated, "defaults": ["widths"]}


def signed(content: dict[str, Any]) -> bytes:
    return canonical_json({**content, "sha256": sha256_of(content)}).encode()


def outcome(read: Any, line: bytes) -> Any:
    try:
        return read(line)
    except ValueError as error:
        return str(error)


def changed() -> list[dict[str, Any]]:
    """That content with each value in turn, at every level, replaced by others, taken out, or joined by an unknown."""
    content = whole()
    found: list[dict[str, Any]] = []

    def walk(path: list[Any], value: Any) -> None:
        if path:
            found.extend(replaced(content, path, each) for each in VALUES)
        if isinstance(value, dict):
            found.append(replaced(content, [*path, "surprise"], 1))
            found.append(replaced(content, [*path, "sha256"], "f" * 64))
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            walk([*path, key], value[key])

    walk([], content)
    return found


def replaced(content: Any, path: list[Any], value: Any) -> Any:
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


def test_the_one_pass_takes_a_line_only_as_the_other_reads_it() -> None:
    taken = 0
    for content in changed():
        line = signed(content)
        quick = lines._as_written(line, PIECES)
        if quick is not None:
            taken += 1
            slow = lines._examined(line)
            assert (quick, repr(quick), quick.model_fields_set) == (slow, repr(slow), slow.model_fields_set)
    assert taken > 100


@pytest.mark.parametrize("text", ['"seed":0', '"options":{"width":16}', '"width":16', '"mean":80.0', '"dirty":false'])
@pytest.mark.parametrize("between", [":", " :", "\t:", "\r:"])
def test_a_key_that_is_given_twice_is_found_even_under_a_hash_of_these_very_bytes(text: str, between: str) -> None:
    content = canonical_json(record().model_dump(mode="json"))
    twice = content.replace(text, f"{text},{text.replace(':', between, 1)}", 1)
    assert twice != content
    line = twice.replace('"status"', f'"sha256":"{hashlib.sha256(twice.encode()).hexdigest()}","status"', 1).encode()
    with pytest.raises(ValueError, match="is given twice"):
        record_in(line)


def test_every_single_byte_of_a_line_is_under_its_hash() -> None:
    line = line_of(record()).encode()
    for place in range(len(line)):
        edited = line[:place] + (b"8" if line[place : place + 1] != b"8" else b"7") + line[place + 1 :]
        with pytest.raises(ValueError, match=r"sha256|not JSON|schema_version"):
            record_in(edited)


def test_rows_as_they_were_written_are_parsed_once_and_never_serialised(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [line for path in sorted(BOARDS.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    monkeypatch.setattr(lines, "_parsed", None)
    quick = [each for each in rows if lines._as_written(each, PIECES) is not None]
    assert len(quick) > 0.9 * len(rows) > 100


def test_a_row_with_quotes_in_its_command_is_read_all_the_same(tmp_path: Path) -> None:
    own = record(command='harness run --option name="a b" \\')
    path = tmp_path / "tiny_online.jsonl"
    path.write_text(line_of(own) + "\n")
    assert read_board(path).records == ((1, own),)
