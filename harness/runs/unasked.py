"""What was asked for of a run that was finished without it."""

from __future__ import annotations

import logging

from harness.records.marks import SEARCHED
from harness.records.record import Record
from harness.runs.resolve import Prepared
from harness.util.option_names import switch

LOG = logging.getLogger(__name__)


def warn_of_unasked(prepared: Prepared, finished: Record) -> None:
    """Says what a finished run, which is not repeated, is without."""
    request, folder, again = prepared.request, prepared.folder, switch("fresh")
    if (request.isolated or request.fresh_workers) and finished.isolated is None:
        LOG.warning(f"the run in {folder} was scored in the harness's own process; {again} scores it isolated")
    elif request.fresh_workers and finished.isolated and not finished.isolated.fresh:
        LOG.warning(f"the run in {folder} was scored by one worker; {again} scores each batch by a new one")
    if request.searched and f"{SEARCHED}: {request.searched} trials" not in finished.marks:
        LOG.warning(f"the run in {folder} was finished before, and its row has no mark of {request.searched} trials")
