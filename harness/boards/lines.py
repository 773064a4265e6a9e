"""Lines of a board: a record as its canonical JSON with the hash of that, and how a line is read again.

The hash (`sha256`, over the canonical JSON of all other keys) tells a line that was edited or cut short from one
that is as it was written; it is no signature, since whoever edits a line can compute it again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from harness.records.canonical import canonical_json, sha256_of
from harness.records.record import SCHEMA_VERSION, Record

AHEAD = timedelta(days=1)
"""How far in the future a run may seem to have finished: clocks go wrong, but not by more."""


def line_of(record: Record) -> str:
    """The line of a record, without its line end."""
    content = record.model_dump(mode="json")
    return canonical_json({**content, "sha256": sha256_of(content)})


def record_in(line: bytes) -> Record:
    """The record of a line; ValueError that says what is wrong with it."""
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
        record = Record.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False)
        said = [f"{'.'.join(map(str, each['loc'])) or 'record'}: {each['msg']}" for each in found[:3]]
        more = [f"and {len(found) - 3} more"] if len(found) > 3 else []
        raise ValueError("; ".join([*said, *more])) from None
    if record.when > datetime.now(UTC) + AHEAD:
        raise ValueError(f"finished is in the future ({record.finished})")
    return record


def _parsed(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; ValueError for anything else, for a key given twice, and for NaN."""
    try:
        content = json.loads(line.decode(), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
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
