"""Boards that were spoilt are shown: whatever cannot be read is named with its line, and nothing is lost by appending.

More cases on demand, as in test_yaml_files.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.boards.store import append_record, board_path, read_board
from harness.records.canonical import canonical_json, sha256_of
from tests.helpers.boards import record
from tests.helpers.commands import ended
from tests.helpers.mutations import AWKWARD, mutated_bytes, settings

pytestmark = pytest.mark.slow

FROZEN = Path(__file__).parents[1] / "boards" / "frozen"
NAME = "cifarfs_delay5"
ROWS = [line for file in sorted(FROZEN.rglob("*.jsonl")) for line in file.read_bytes().splitlines()]
BOARD = b"".join(line + b"\n" for line in (FROZEN / f"{NAME}.jsonl").read_bytes().splitlines())


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boards")


def check_board(boards: Path, content: bytes) -> None:
    """Every line that is not empty is a record or a problem with its number, and the board is shown."""
    path = board_path(boards, NAME, stand_in=False)
    for old in boards.glob(f"{NAME}*"):
        old.unlink()
    path.write_bytes(content)
    found = read_board(path)
    told = {number for number, _ in found.records}
    for problem in found.problems:
        line = re.match(rf"{NAME}\.jsonl:([1-9]\d*): ", problem)
        assert line, problem
        told.add(int(line[1]))
    assert told == {number for number, line in enumerate(content.split(b"\n"), 1) if line.strip()}
    before = [each for _, each in found.records]
    new = record(run="new", protocol=NAME)
    append_record(new, boards, lambda _: None)
    after = [each for _, each in read_board(path).records]
    assert after == [*before, new]
    tails = b"".join(each.read_bytes() for each in boards.glob(f"{NAME}.jsonl.torn-*"))
    assert path.read_bytes().startswith(content.removesuffix(tails)), "what was there is there, or set aside"


def shown(boards: Path, *words: str) -> None:
    code, _, err = ended("board", NAME, "--boards", str(boards), *words)
    assert code == 0, err


@settings(350)
@given(mutated_bytes(BOARD))
def test_a_spoilt_board_is_read_and_appended_to(boards: Path, content: bytes) -> None:
    check_board(boards, content)


@st.composite
def odd_records(draw: st.DrawFn) -> bytes:
    """A row whose hash is right and whose values are not those that the harness writes."""
    content = json.loads(draw(st.sampled_from(ROWS)))
    del content["sha256"]
    odd: st.SearchStrategy[object] = st.sampled_from(
        [None, True, -1, 0, 2**70, 1e300, "", "x" * 400, "a|b<c>\n", [], {}, [[]], {"a": 1}, *AWKWARD]
    )
    for _ in range(draw(st.integers(1, 3))):
        inside = content
        key = draw(st.sampled_from(sorted(inside)))
        while isinstance(inside[key], dict) and inside[key] and draw(st.booleans()):
            inside, key = inside[key], draw(st.sampled_from(sorted(inside[key])))
        how = draw(st.sampled_from(["replace", "replace", "delete", "rename"]))
        if how == "replace":
            inside[key] = draw(odd)
        else:
            value = inside.pop(key)
            if how == "rename":
                inside[draw(st.sampled_from(["x", "é", "run", "seed", ""]))] = value
        if not inside:
            break
    content["protocol"] = NAME if draw(st.booleans()) else content.get("protocol")
    return canonical_json({**content, "sha256": sha256_of(content)}).encode() + b"\n"


@settings(250)
@given(odd_records())
def test_a_record_of_odd_values_is_read_or_named(boards: Path, line: bytes) -> None:
    check_board(boards, BOARD + line)


@settings(60)
@given(mutated_bytes(BOARD) | odd_records().map(lambda line: BOARD + line))
def test_a_spoilt_board_is_shown(boards: Path, content: bytes) -> None:
    check_board(boards, content)
    shown(boards)
    shown(boards, "--json")
