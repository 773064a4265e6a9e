"""Rows stay readable: real rows as earlier versions of the harness wrote them, kept in tests/frozen and never changed.

When the form of records changes, a row of the old form is added here; none is ever taken away or written anew.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness import cli
from harness.boards.lines import line_of
from harness.boards.store import read_board
from harness.records.canonical import canonical_json, sha256_of
from harness.records.record import SCHEMA_VERSION

FROZEN = Path(__file__).with_name("frozen")
FILES = sorted(str(path.relative_to(FROZEN)) for path in FROZEN.rglob("*.jsonl"))

KEYS = {
    "resnet20-quick-s0-a23338a515": "8cd756889a5a",
    "chance-quick-s0-b7dc7f0d49": "633e4fc18e64",
    "cl_lstm-quick-s0-2ff696d469": "88ffd5c1f89b",
    "cl_lstm-quick-s0-b5594e1227": "51ec20ebab38",
    "cl_unet-quick-s0-2f518837dc": "07324ff7205e",
}
"""The first digits of each row's key. Rows of one key are seeds of one entry, so that other keys make another board; an
option that a method gets must change none."""


@pytest.mark.parametrize("file", FILES)
def test_frozen_rows_are_read_with_every_value_they_were_written_with(file: str) -> None:
    path = FROZEN / file
    board = read_board(path)
    lines = path.read_text().splitlines()
    assert board.problems == ()
    assert [number for number, _ in board.records] == list(range(1, len(lines) + 1))
    for line, (_, record) in zip(lines, board.records, strict=True):
        written = json.loads(line)
        del written["sha256"]
        read = record.model_dump(mode="json")
        for key in ("cost", "data", "hardware", "code"):
            read[key] = {name: value for name, value in read[key].items() if name in written[key]}
        assert {name: read[name] for name in written} == written
        assert record.row_key[:12] == KEYS[record.run]


def test_the_samples_cover_the_forms_that_rows_have_had() -> None:
    rows = [json.loads(line) for file in FILES for line in (FROZEN / file).read_text().splitlines()]
    assert {row["run"] for row in rows} == KEYS.keys()
    assert {row["schema_version"] for row in rows} == {1}
    for key in ("gflop_per_query", "growth_bytes_per_delay"):
        assert {key in row["cost"] for row in rows} == {True, False}, key
    assert {"pretrained" in row for row in rows} == {True, False}
    assert {row["init"] is None for row in rows} == {True, False}
    assert {row["checkpoint"] is None for row in rows} == {True, False}
    assert {row["data"]["stand_in"] for row in rows} == {True, False}


def test_a_row_of_another_version_is_reported_with_its_line_and_the_others_are_ranked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cifarfs_delay5.jsonl"
    shutil.copy(FROZEN / path.name, path)
    newer = json.loads(path.read_text().splitlines()[0])
    del newer["sha256"]
    for version in (0, SCHEMA_VERSION + 1):
        newer["schema_version"] = version
        with path.open("a") as file:
            file.write(canonical_json({**newer, "sha256": sha256_of(newer)}) + "\n")
    before = path.read_bytes()
    assert cli.main(["board", "cifarfs_delay5", "--boards", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "cifarfs_delay5.jsonl:3: schema_version is 0; this harness reads 1" in printed
    assert "cifarfs_delay5.jsonl:4: schema_version is 2; this harness reads 1" in printed
    assert [each.run for _, each in read_board(path).records] == [
        json.loads(row)["run"] for row in before.split(b"\n")[:2]
    ]
    assert path.read_bytes() == before, "what cannot be read stays in the file for whoever can"


def test_rendered_files_can_always_be_made_again_from_the_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From whole, torn, edited and doubled rows alike: deleted, emptied or cut files come back with the same bytes."""
    boards = tmp_path / "boards"
    shutil.copytree(FROZEN, boards)
    torn, doubled = boards / "omniglot_5way_online.jsonl", boards / "cifarfs_delay5.jsonl"
    torn.write_bytes(torn.read_bytes() + torn.read_bytes()[:500])
    first, second = doubled.read_text().splitlines()
    edited = second.replace('"seed":0', '"seed":1')
    doubled.write_text(f"{first}\n{first}\n{edited}\n{second}\n")
    records = {path: path.read_bytes() for path in boards.rglob("*.jsonl")}
    write = ["board", "--boards", str(boards), "--write"]
    assert cli.main(write) == 0
    rendered = {path: path.read_bytes() for path in boards.rglob("*.md")}
    assert len(rendered) == len(FILES) + 1
    shown = rendered[doubled.with_suffix(".md")].decode()
    assert "the same as line 1" in shown
    assert "changed after it was written" in shown
    assert "ends after 500 bytes" in rendered[torn.with_suffix(".md")].decode()
    paths = sorted(rendered)
    paths[0].unlink()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(rendered[paths[2]][:300])
    assert cli.main(write) == 0
    assert {path: path.read_bytes() for path in boards.rglob("*.md")} == rendered
    assert {path: path.read_bytes() for path in boards.rglob("*.jsonl")} == records
    assert capsys.readouterr().err == ""


def test_a_frozen_row_written_by_this_version_is_read_by_it_again(tmp_path: Path) -> None:
    for file in FILES:
        for _, record in read_board(FROZEN / file).records:
            again = tmp_path / ("stand_in" if record.data.stand_in else "real") / f"{record.protocol}.jsonl"
            again.parent.mkdir(exist_ok=True)
            again.write_text(line_of(record) + "\n")
            assert read_board(again).records == ((1, record),)
