"""A finished run's row: checked, its files kept, and put on the board."""

from __future__ import annotations

from pathlib import Path

from harness.boards.artifacts import keep
from harness.boards.conformance import checked, unchecked
from harness.boards.markdown import View, publish, view_board
from harness.records.record import Record
from harness.runs.resolve import Prepared


def publish_run(record: Record, prepared: Prepared, boards: Path, check: bool = True) -> tuple[Record, View]:
    """Puts a finished run's row on its board, and returns the row's record and the board as the run's protocol has it.

    The method is checked first, unless it has passed before; a row that fails, or is not checked, is not ranked.
    Raises RunError if a file cannot be written.
    """
    cache = prepared.request.cache
    row = checked(record, prepared.method, prepared.protocol, prepared.dataset, cache) if check else unchecked(record)
    row = keep(row, prepared.folder, boards)
    view = publish(row, prepared.loaded, boards)
    if view.protocol != prepared.protocol:  # a changed copy of a shipped protocol
        view = view_board(prepared.loaded.name, prepared.protocol, boards, prepared.stand_in)
    return row, view
