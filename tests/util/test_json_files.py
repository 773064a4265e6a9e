"""JSON of others: bounded in size, depth and numbers, and refused in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.util.json_files import parsed_json, read_json


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "more than 64 levels"),
        ("[" * 100 + "]" * 100, "more than 64 levels"),
        ('{"a":' * 70 + "1" + "}" * 70, "more than 64 levels"),
        ('{"a": NaN}', "NaN is not a number that it may hold"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[1e999]", "1e999 is not a number"),
        ("9" * 400, "a whole number of 400 digits"),
        ("9" * 40_000, "a whole number of 40000 digits"),
        ("{", "Expecting"),
        (b"\xff", "utf-8"),
        ("", "Expecting value"),
    ],
)
def test_what_no_harness_writes_is_a_value_error_with_the_reason(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsed_json(text)


def test_what_the_harness_writes_is_read() -> None:
    assert parsed_json('{"a": [1, 2.5, null, "x"], "b": {"c": 18446744073709551615}}')["b"] == {"c": 2**64 - 1}
    assert parsed_json("[" * 64 + "]" * 64)
    assert parsed_json("[Infinity]", finite=False) == [float("inf")]


@pytest.mark.skipif(os.name != "posix", reason="no such files")
@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_files_without_an_end_are_neither_waited_for_nor_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b" " * 101)
    with pytest.raises(ValueError, match="larger than 100 bytes" if kind == "large" else "not a regular file"):
        read_json(path, 100)
