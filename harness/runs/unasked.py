"""What was asked for of a run that was finished without it, or with another method than the present one."""

from __future__ import annotations

import logging

from harness.method.registry import built_in
from harness.records.marks import SEARCHED
from harness.records.record import Record
from harness.runs.resolve import Prepared
from harness.util.errors import UserError
from harness.util.option_names import switch

LOG = logging.getLogger(__name__)


def check_unchanged(prepared: Prepared, finished: Record) -> None:
    """Raises UserError where a method of the user's own is no longer what the finished run was made with.

    Its old scores would pass for those of the new code, whose conformance is what a row says.
    """
    method, there = prepared.method, finished.method_source
    if built_in(finished.target) is None and there not in (None, method.source_hash):
        raise UserError(
            f"{method.own_file}, or a file that it imports, has changed since the run in {prepared.folder} was "
            f"finished with it; {switch('fresh')} runs it again and sets the old one aside"
        )


def warn_of_unasked(prepared: Prepared, finished: Record) -> None:
    """Says what a finished run, which is not repeated, is without."""
    request, folder, again = prepared.request, prepared.folder, switch("fresh")
    if (request.isolated or request.fresh_workers) and finished.isolated is None:
        LOG.warning(f"the run in {folder} was scored in the harness's own process; {again} scores it isolated")
    elif request.fresh_workers and finished.isolated and not finished.isolated.fresh:
        LOG.warning(f"the run in {folder} was scored by one worker; {again} scores each batch by a new one")
    if request.searched and f"{SEARCHED}: {request.searched} trials" not in finished.marks:
        LOG.warning(f"the run in {folder} was finished before, and its row has no mark of {request.searched} trials")
