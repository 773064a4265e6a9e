"""A check of losses over queries, for stages of training whose episodes have none."""

from __future__ import annotations

from harness.training.interface import Batch
from harness.util.errors import UserError


def check_queries(batch: Batch, loss: str) -> None:
    """Raises UserError, which names the `loss`, where no step of the episodes is a query after labelled samples."""
    if batch.first_query == len(batch.target):
        raise UserError(
            f"{loss} is over queries after labelled samples, of which the episodes of this stage have none; give the "
            "stage the kind continual or n_way_k_shot, or none of its own"
        )
