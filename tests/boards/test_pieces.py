"""Lines read in pieces: a piece that was read once is not read again, and no line is taken for what it does not say."""

from __future__ import annotations

import json
import random
import re
from typing import Any
from unittest.mock import Mock

import pytest

from harness.boards import lines, pieces
from harness.boards.lines import line_of, record_in
from harness.boards.pieces import OWN, SHARED, Pieces
from harness.records.canonical import canonical_json
from harness.records.parts import Metric
from harness.records.record import Record
from tests.boards.test_lines import signed, whole
from tests.helpers.boards import record

CONTENT = canonical_json(whole()).encode()


def taken(content: bytes) -> Record | None:
    try:
        return Pieces().record_in(content)
    except ValueError:
        return None


def test_every_line_can_be_cut_and_holds_every_key_of_a_metric() -> None:
    """Otherwise rows would be taken apart one by one, or keys of metrics be counted wrong."""
    fields = Record.model_fields
    assert all(fields[key].is_required() for key in (*OWN, *SHARED))
    assert min(fields) in SHARED, "the first key of all begins the first piece"
    assert all(field.is_required() for field in Metric.model_fields.values())
    assert taken(CONTENT) is not None


def test_no_value_that_a_row_has_of_its_own_is_an_array_of_objects() -> None:
    """What keeps the pieces apart that are validated in one call (`Pieces._read`)."""
    properties = Record.model_json_schema()["properties"]
    firsts = sorted((*OWN, *SHARED))
    own = {name for name in properties if max(key for key in firsts if key <= name) in OWN}
    assert {"checkpoint", "curves", "metrics", "run", "scores", "seed", "train_seconds"} <= own
    assert "pretrained" not in own
    items = re.findall(r'"items": \{([^}]*)\}', json.dumps([properties[name] for name in sorted(own)]))
    assert items
    assert all('"type": "number"' in each for each in items)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "01", "1.", '"1"', "true"])
@pytest.mark.parametrize("key", ["score_seconds", "train_seconds", "mean", "interval", "gflop_per_step"])
def test_a_number_that_is_none_is_not_taken(key: str, number: str) -> None:
    content, count = re.subn(rf'"{key}":[-+.\w]+'.encode(), f'"{key}":{number}'.encode(), CONTENT)
    assert count > 0
    assert taken(content) is None


def test_bytes_that_are_no_text_are_not_taken() -> None:
    for text in (b"opn", b"harness run", b"Some CPU"):
        assert text in CONTENT
        assert taken(CONTENT.replace(text, b"\xff\xfe")) is None


def test_pieces_that_rows_share_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mock(wraps=pieces._remembered)
    monkeypatch.setattr(pieces, "_remembered", read)
    board = Pieces()
    found = [
        record_in(line_of(record(run=f"r{n}", seed=n, options={"width": n % 3}, checkpoint="f" * 64)).encode(), board)
        for n in range(60)
    ]
    assert read.call_count == len(SHARED) + 2
    assert found[0].hardware is found[59].hardware
    assert [each.options["width"] for each in found[:4]] == [0, 1, 2, 0]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_MOST", 3)
    board = Pieces()
    for number in [*range(10), *range(10)]:
        own = record(options={"width": number})
        assert record_in(line_of(own).encode(), board) == own
        assert max(len(known) for known, _ in board._shared) <= 3


def test_a_copy_of_a_row_changes_no_other() -> None:
    board = Pieces()
    first, second = (record_in(line_of(record(seed=seed)).encode(), board) for seed in (0, 1))
    copy = first.model_copy(update={"kept": "checkpoints", "seed": 5})
    assert (copy.seed, copy.kept, first.kept, second.kept) == (5, "checkpoints", "", "")
    assert (first, second) == (record(), record(seed=1))


@pytest.mark.parametrize("key", [*OWN, *SHARED])
def test_options_and_metrics_of_the_names_that_lines_are_cut_at_are_read(key: str) -> None:
    metrics = {"accuracy": record().metrics["accuracy"], key: record().metrics["accuracy"]}
    own = record(options={"a": 1, key: 2}, metrics=metrics, curves={"by_shot": [1.0], key: [2.0]})
    assert record_in(line_of(own).encode()) == own


@pytest.mark.parametrize("blanks", ["", " ", "  ", "\t", "\r"])
def test_a_key_given_twice_at_any_level_is_not_taken(blanks: str) -> None:
    found = list(re.finditer(rb'"[^"]+":("[^"]*"|[-\w.]+)', CONTENT))
    assert len(found) > 40
    for each in found:
        again = each[0].replace(b":", f"{blanks}:".encode(), 1)
        assert taken(CONTENT[: each.end()] + b"," + again + CONTENT[each.end() :]) is None, again


def test_what_is_taken_is_json_and_says_so_much() -> None:
    """Whatever brackets, quotes, commas and keys are put in, left out or moved, under a hash that fits."""
    drawn = random.Random(0)
    marks = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"},{",
        b" ",
        b"null",
        b"0",
        *(f',"{key}":'.encode() for key in OWN),
    ]
    places = [each.start() for each in re.finditer(rb'[{}\[\],:"]', CONTENT)]
    accepted = 0
    for _ in range(4000):
        content = CONTENT
        for _ in range(drawn.choice([1, 1, 2, 3])):
            start, end = sorted(drawn.sample(places, 2))
            how = drawn.choice(["put", "cut", "move", "swap"])
            if how == "put":
                content = content[:start] + drawn.choice(marks) + content[start:]
            elif how == "cut":
                content = content[:start] + content[start + 1 :]
            elif how == "move":
                part, rest = content[start:end], content[:start] + content[end:]
                place = drawn.randrange(len(rest))
                content = rest[:place] + part + rest[place:]
            else:
                content = content[:start] + drawn.choice(marks) + content[start + 1 :]
        quick = taken(content)
        if quick is not None:
            accepted += 1
            said: dict[str, Any] = json.loads(content, object_pairs_hook=lines._without_repeats)
            assert quick == Record.model_validate(said)
    assert accepted > 3


def test_a_time_in_the_future_is_found_in_every_form_of_a_time() -> None:
    for finished in ("9999-01-01T00:00:00Z", "99990101T000000Z", "9999-W01-1T00:00:00+00:00"):
        with pytest.raises(ValueError, match="finished is in the future"):
            record_in(signed({**record().model_dump(mode="json"), "finished": finished}))
    for finished in ("2020-01-01T00:00:00Z", "20200101T000000Z", "2020-W01-1T00:00:00+00:00"):
        assert record_in(line_of(record(finished=finished)).encode()).finished == finished
