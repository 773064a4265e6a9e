"""What a run comes to on its board: the entry it is part of, its rank, and the paired difference to its best rival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.boards.compare import Difference, differences
from harness.boards.entries import Entry
from harness.boards.markdown import View, stored_values
from harness.evaluation.score import each
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.records.same_run import adds_nothing
from harness.runs.folder import SCORES, read_scores
from harness.util.errors import UserError
from harness.util.tensor_files import sha256_of

OLDER, BEHIND = "Older", "another row of the same setting and seed stands for it"
"""Why a run that the board does not show is not ranked: heading and detail."""


def entry_of_runs(protocol: AnyProtocol, records: Sequence[Record], folders: Sequence[Path]) -> Entry:
    """The entry that runs would be on a board: with the scores of single episodes that their folders hold."""
    values = []
    for record, folder in zip(records, folders, strict=True):
        stored = folder / SCORES
        whole = record.scores is not None and stored.is_file() and sha256_of(stored) == record.scores
        values.append(each(protocol, read_scores(stored)) if whole else None)
    return Entry(tuple(records), 0, (), tuple(values))


@dataclass(frozen=True)
class Outcome:
    """An entry's place: `rank` ('1', '2=') among `ranked` entries, None where the entry is apart (`entry.reasons`).

    `rival` is the best other ranked entry, None if there is none; `difference` is the entry's less the rival's in the
    metric of the board, None with a reason in `without_difference`.
    """

    entry: Entry
    rank: str | None
    ranked: int
    rival: Entry | None
    difference: Difference | None
    without_difference: str


def outcome_of(records: Sequence[Record], view: View, boards: Path) -> Outcome:
    """The outcome of records, one a seed, the last of which has just been put on the board of this view.

    Where the board shows another run for that setting and seed, the outcome is that of `records` by themselves,
    without a rank.
    """
    ranked = view.standings.ranked
    entries = [*ranked, *((None, entry) for _, apart in view.standings.apart for entry in apart)]
    own = next(((rank, entry) for rank, entry in entries if _shows(entry, records[-1])), None)
    if own is None:
        values = tuple(stored_values(view.protocol, record, boards) for record in records)
        own = None, Entry(tuple(records), 0, ((OLDER, BEHIND),), values)
    rank, entry = own
    rival = next((other for _, other in ranked if other is not entry), None)
    difference, reason = None, ""
    if rival is not None and view.protocol is not None:
        try:
            difference = differences(view.protocol, entry, rival, boards)[0]
        except UserError as error:
            reason = str(error)
    return Outcome(entry, rank, len(ranked), rival, difference, reason)


def _shows(entry: Entry, record: Record) -> bool:
    """Whether an entry has the row of this very run, be it one that says more of it."""
    return any(adds_nothing(record, each) for each in entry.records)
