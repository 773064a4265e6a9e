"""What a run comes to on its board: the entry it is part of, its rank, and the paired difference to its best rival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.boards.compare import Difference, differences
from harness.boards.entries import Entry
from harness.boards.markdown import View
from harness.evaluation.score import each
from harness.protocol.models import AnyProtocol
from harness.records.record import Record
from harness.runs.folder import SCORES, read_scores
from harness.util.errors import UserError
from harness.util.tensor_files import sha256_of


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


def outcome_of(record: Record, view: View, boards: Path) -> Outcome:
    """The outcome of a record that is on the board of this view (or was, and a newer one of the same setting and seed
    stands for it). Raises UserError if the board has neither."""
    ranked = view.standings.ranked
    entries = [*ranked, *((None, entry) for _, apart in view.standings.apart for entry in apart)]
    key, start = record.row_key, (record.seed, record.init)
    found = ((rank, entry) for rank, entry in entries for each in entry.records if (each.seed, each.init) == start)
    own = next(((rank, entry) for rank, entry in found if entry.newest.row_key == key), None)
    if own is None:
        raise UserError(f"the board '{view.name}' has no row of run {record.run}")
    rank, entry = own
    rival = next((other for _, other in ranked if other is not entry), None)
    difference, reason = None, ""
    if rival is not None and view.protocol is not None:
        try:
            difference = differences(view.protocol, entry, rival, boards)[0]
        except UserError as error:
            reason = str(error)
    return Outcome(entry, rank, len(ranked), rival, difference, reason)
