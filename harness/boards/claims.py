"""What a row says, held against what it is made of: numbers against scores, all else against weights and method.

`submit` asks this before a row goes onto a board, `verify` of every row that is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.evaluation.evaluate import whole_test
from harness.evaluation.score import Scores, curves, metrics
from harness.method.interface import Method
from harness.protocol.models import AnyProtocol
from harness.records.marks import PARTIAL_TEST, STAND_IN, is_check_mark
from harness.records.record import Record
from harness.runs.build_record import cost_of, method_marks
from harness.util.tensor_files import load_tensors

ROUNDING = 1e-6
"""Percentage points by which means of the same scores may differ: sums are rounded otherwise elsewhere."""

_LATER_COSTS = ("gflop_per_query", "growth_bytes_per_delay")
"""Costs that rows from before they were counted do not have."""

_WITHOUT_FEEDBACK = ", null feedback"


def wrong_numbers(record: Record, protocol: AnyProtocol, scores: Scores, tolerance: float = ROUNDING) -> list[str]:
    """In which metrics, intervals, numbers of episodes and curves a row is not what its scores give, a line each.

    `scores` are those of all its test episodes; means may differ by `tolerance` (percentage points), points of curves
    by four times as much.
    """
    claimed = {name: (each.mean, each.interval or 0.0, each.episodes) for name, each in record.metrics.items()}
    made = {
        name: (mean, interval if count > 1 else 0.0, count)
        for name, (mean, interval, count) in metrics(protocol, scores).items()
    }
    wrong = [f"{name} is not a metric that its scores give" for name in sorted(claimed.keys() - made.keys())]
    wrong += [f"{name} is missing" for name in sorted(made.keys() - claimed.keys())]
    wrong += [
        f"{name} is {_in_words(claimed[name])} in the record, {_in_words(made[name])} in the scores"
        for name in sorted(claimed.keys() & made.keys())
        if claimed[name][2] != made[name][2]
        or not np.allclose(claimed[name][:2], made[name][:2], 0, tolerance, equal_nan=True)
    ]
    drawn = curves(protocol, scores)
    wrong += [
        f"the curve '{name}' is another"
        for name, values in drawn.items()
        if len(values) != len(record.curves.get(name, []))
        or not np.allclose(values, record.curves[name], 0, 4 * tolerance)
    ]
    # Curves without feedback are of a scoring of their own, whose scores are not kept.
    known = {*drawn, *(f"{name}{_WITHOUT_FEEDBACK}" for name in drawn if protocol.masks)}
    wrong += [f"the curve '{name}' is not one that its scores give" for name in sorted(record.curves.keys() - known)]
    return wrong


def identity_of(record: Record) -> dict[str, Any]:
    """What a record says of which run it is of; the run's folder and its weights say the same."""
    names = ["protocol", "digest", "method", "target", "options", "seed", "init", "test_episodes"]
    if record.train_updates:  # of a method that is not trained the recipe is not on the row
        names += [
            "recipe",
            "recipe_hash",
            "budget",
            "budget_cut",
            *(["recipe_changes"] if record.recipe_changes else []),
        ]
    found = {name: getattr(record, name) for name in names}
    return {**found, "data": record.data.name, "fingerprint": record.data.fingerprint}


def wrong_facts(
    record: Record, protocol: AnyProtocol, dataset: Dataset, method: Method, weights: Path | None
) -> list[str]:
    """In what a row is not what its weights and its method say, a line each: run, training episodes, marks and cost.

    `method` is built as the row says, with the weights of the file `weights` (None: the row names none).
    """
    header = load_tensors(weights)[1] if weights is not None else {}
    wrong = []
    if weights is None and any(True for _ in method.parameters()):
        wrong.append("checkpoint: none in the record, but the method has parameters")
    identity = header.get("identity", {}) if isinstance(header.get("identity", {}), dict) else {}
    if weights is not None and not identity:
        wrong.append("checkpoint: the weights do not say which run they are of")
    wrong += _differing(
        ((name, claim, identity[name]) for name, claim in identity_of(record).items() if name in identity),
        "in its weights",
    )
    episodes = header.get("train_episodes", 0)
    wrong += _differing([("training episodes", record.init_episodes + record.train_episodes, episodes)])
    claimed = sorted(mark for mark in record.marks if not is_check_mark(mark))
    if weights is None or "marks" in header:  # weights from before their header had marks say nothing of them
        marks = {*map(str, header.get("marks") or ()), *method_marks(method)}
        marks |= {STAND_IN} if record.data.stand_in else set()
        marks |= {PARTIAL_TEST} if record.test_episodes < whole_test(protocol, dataset) else set()
        wrong += _differing([("marks", claimed, sorted(marks))])
    else:
        missing = sorted({*method_marks(method)} - {*claimed})
        wrong += [f"marks: {', '.join(missing)} missing"] if missing else []
    theirs = record.cost.model_dump()
    ours = cost_of(method, protocol, dataset, record.options, record.seed).model_dump()
    wrong += _differing(
        (name, _rounded(theirs[name]), _rounded(ours[name]))
        for name in ours
        if not (name in _LATER_COSTS and theirs[name] is None)
    )
    return wrong


def _differing(triples: Iterable[tuple[str, Any, Any]], where: str = "found") -> list[str]:
    return [f"{name}: {claimed} in the record, {real} {where}" for name, claimed, real in triples if claimed != real]


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _in_words(metric: tuple[float, float, int]) -> str:
    return f"{metric[0]:.4f} ± {metric[1]:.4f} over {metric[2]} episodes"
