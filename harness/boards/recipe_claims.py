"""What a row says of its training, held against the recipe that it names.

Asked by `submit` alone, where the code is that of the run. Rows that are on a board already were trained by the recipes
of their time, which may have changed since.
"""

from __future__ import annotations

from typing import get_args

from harness.data.dataset import Dataset
from harness.method.registry import LoadedMethod
from harness.protocol.load import Loaded
from harness.protocol.models import AnyProtocol
from harness.records.marks import CUSTOM_RECIPE
from harness.records.record import Record
from harness.training.recipe import Budget, budget_hash
from harness.training.recipe_file import resolve_for
from harness.training.selection import validation_protocol
from harness.util.errors import UserError
from harness.util.precision import Precision


def wrong_training(
    record: Record, loaded: Loaded, protocol: AnyProtocol, dataset: Dataset, method: LoadedMethod
) -> list[str]:
    """In what a row's recipe, budget and training episodes do not go together, a line each.

    The recipe is the method's own, unless the row is marked as of another one (whose file is not at hand). `protocol`
    is the loaded one on the data of the row.
    """
    if not record.train_updates or CUSTOM_RECIPE in record.marks:
        return []
    try:
        resolved = resolve_for(
            method, loaded, record.budget, None, record.init is not None, protocol, record.recipe_changes
        )
    except UserError as error:
        return [f"recipe: {record.recipe} has no such budget as the record's ({str(error).splitlines()[0]})"]
    budget = resolved.budget
    if validation_protocol(protocol, dataset) is None:
        budget = budget.model_copy(update={"validation": None})
    if resolved.name != record.budget or record.recipe_hash not in _hashes(budget):
        return [
            f"recipe: that of budget {record.budget} has the hash {budget_hash(budget)[:12]}, in the record it is "
            f"{record.recipe_hash[:12]} (another recipe than this code's: run it again)"
        ]
    most, shorter = budget.episodes, record.budget_cut or any(each.until_loss for each in budget.stages)
    if not (1 if shorter else most) <= record.train_episodes <= most:
        return [f"training episodes: {record.train_episodes} in the record, {most} in budget {record.budget}"]
    return []


def _hashes(budget: Budget) -> set[str]:
    """Those of the budget in every precision: a run may have another than its recipe (--precision)."""
    return {budget_hash(budget.model_copy(update={"precision": each})) for each in get_args(Precision)}
