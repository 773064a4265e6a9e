"""Costs that are computed on the spot, of methods as a recipe builds them: no board has to hold such a row."""

from __future__ import annotations

from dataclasses import dataclass

from harness.protocol.load import load_protocol
from harness.tables.definition import Column, Row
from harness.util.shipped_files import protocol_files


@dataclass(frozen=True)
class ComputedCost:
    """What a method with untrained weights costs on a protocol, under the options of a budget and a row.

    `options` are those that differ from the method's defaults, as text.
    """

    method: str
    protocol: str
    options: str
    parameters: int
    gflop_per_prediction: float
    gflop_per_step: float

    def of(self, column: Column) -> float:
        """The column's cost in its unit."""
        if column.cost == "million parameters":
            return self.parameters / 1e6
        return self.gflop_per_step if column.cost == "GFLOP per step" else self.gflop_per_prediction


def computed_cost(row: Row, name: str, budget: str) -> ComputedCost | None:
    """The cost of a row's method on a shipped protocol; None if there is no such method here (yet).

    The method is built as `budget` of its recipe builds it, with the row's options over the recipe's.
    """
    from harness.episodes.fixed import table_without_data
    from harness.episodes.plan import plan_episodes
    from harness.evaluation.cost import prediction_gflop, step_gflop
    from harness.evaluation.evaluate import EVALUATION_SEED
    from harness.method.options import resolved_options
    from harness.method.registry import build_method, load_method, method_names, task_for
    from harness.training.recipe_file import load_budget, recipe_path

    if row.method not in method_names():
        return None
    loaded, found = load_protocol(protocol_files()[name]), load_method(row.method)
    card = loaded.protocol.card
    given = load_budget(recipe_path(found.name, found.own_file), loaded, budget).options | row.options
    method = build_method(found.cls, task_for(found.cls, loaded.protocol, card.image_shape), given, seed=0)
    plan = plan_episodes(loaded.protocol, table_without_data(loaded.protocol, "test"), "test", EVALUATION_SEED, [0])
    defaults = resolved_options(found.cls, {})
    return ComputedCost(
        method=found.name,
        protocol=name,
        options=", ".join(f"{key}={value}" for key, value in sorted(given.items()) if value != defaults[key]),
        parameters=sum(each.numel() for each in method.parameters()),
        gflop_per_prediction=prediction_gflop(method),
        gflop_per_step=step_gflop(method, plan),
    )
