"""Records of one finished run, which differ in what was found out or done later: a check, a scoring apart, weights
kept."""

from __future__ import annotations

from harness.records.marks import NOT_CHECKED, is_check_mark
from harness.records.record import Record

_LATER = frozenset({"isolated", "kept", "marks"})
"""What `harness submit`, or the command of the run given again, may say otherwise of the same run."""


def adds_nothing(record: Record, other: Record) -> bool:
    """Whether a record is that of the same finished run as another one, and leaves out some of what that says, or
    nothing: that the method was checked, that it was scored isolated, or where its weights are kept."""
    if (record.run, record.finished) != (other.run, other.finished):
        return False
    if any(
        getattr(record, name) != getattr(other, name) for name in Record.model_fields if name not in _LATER
    ) or _without_check(record) != _without_check(other):
        return False
    as_checked = NOT_CHECKED in record.marks or set(record.marks) == set(other.marks)
    return as_checked and record.isolated in (None, other.isolated) and record.kept in ("", other.kept)


def _without_check(record: Record) -> set[str]:
    return {mark for mark in record.marks if not is_check_mark(mark)}
