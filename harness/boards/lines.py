"""Lines of a board: a record as its canonical JSON with the hash of that, and how a line is read again.

The hash (`sha256`, over the canonical JSON of all other keys) tells a line that was edited or cut short from one
that is as it was written; it is no signature, since whoever edits a line can compute it again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from harness.boards.pieces import Pieces
from harness.records.canonical import canonical_json, sha256_of
from harness.records.record import SCHEMA_VERSION, Record
from harness.util.errors import first_few

AHEAD = timedelta(days=1)
"""How far in the future a run may seem to have finished: clocks go wrong, but not by more."""

_HASH = b'"sha256":"'
"""What stands before a line's hash, which other keys follow: `status` and others sort behind it."""

_VERSION = b'"schema_version":%d,' % SCHEMA_VERSION
"""What a line has: validation takes `true` for 1."""


def line_of(record: Record) -> str:
    """The line of a record, without its line end."""
    content = record.model_dump(mode="json")
    return canonical_json({**content, "sha256": sha256_of(content)})


def record_in(line: bytes, pieces: Pieces | None = None) -> Record:
    """The record of a line; ValueError that says what is wrong with it.

    A line whose own bytes fit its hash, as every line that was written here, is read by `pieces`, which are those of
    its board; any other is taken apart, for what is wrong with it.
    """
    pieces = pieces or Pieces()
    record = _as_written(line, pieces) or _examined(line)
    if record.finished >= pieces.today and record.when > datetime.now(UTC) + AHEAD:  # times sort as their texts
        raise ValueError(f"finished is in the future ({record.finished})")
    return record


def _as_written(line: bytes, pieces: Pieces) -> Record | None:
    """The record of a line of which nothing needs to be said; None for a line that `_examined` has to look at.

    Without its hash a line that was written here is the canonical JSON that the hash is over, so that nothing has to be
    serialised again.
    """
    start = line.find(_HASH)
    end = start + len(_HASH) + 64
    if start < 0 or line[end : end + 2] != b'",' or b"\\" in line:
        return None
    content = line[:start] + line[end + 2 :]
    if hashlib.sha256(content).hexdigest().encode() != line[start + len(_HASH) : end]:
        return None
    try:
        return pieces.record_in(content)
    except ValueError:  # pydantic's is one
        return None


def _examined(line: bytes) -> Record:
    """The record of any line that holds one, whatever its blanks and the order of its keys; ValueError as `record_in`
    has it, but for the time."""
    content = _parsed(line)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise ValueError(f"schema_version is {version!r}; this harness reads {SCHEMA_VERSION}")
    claimed = content.pop("sha256", None)
    if claimed is None:
        raise ValueError("no sha256: not written by the harness")
    if claimed != sha256_of(content):
        raise ValueError("sha256 does not fit: the line was changed after it was written")
    try:
        return Record.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False)
        said = [f"{'.'.join(map(str, each['loc'])) or 'record'}: {each['msg']}" for each in found]
        raise ValueError(first_few(said, 3, "; ")) from None


def _parsed(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; ValueError for anything else, for a key given twice, and for NaN."""
    try:
        content = json.loads(line.decode(), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key '{next(name for name in names if names.count(name) > 1)}' is given twice")
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that a board may hold")


def is_whole(line: bytes) -> bool:
    """Whether a line is as it was written, to the last byte."""
    try:
        content = _parsed(line)
        return content.pop("sha256", None) == sha256_of(content)
    except (ValueError, RecursionError):
        return False


def run_of(line: bytes) -> str | None:
    """The run that a line says it is of; None if the line cannot be read."""
    try:
        return _parsed(line).get("run")
    except (ValueError, RecursionError):
        return None
