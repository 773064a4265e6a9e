"""Kinds of one's own: a model, a plan and a scorer, registered together.

The shipped kinds have their parts in a package a floor, each with its table: `harness/protocol/kinds/` (models, with
the description in words), `harness/episodes/plans/` and `harness/evaluation/score/`. A further kind may keep all of
them in one module, anywhere, which ends with `register(Kind(...))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.episodes.plans import PLANS, Plan
from harness.evaluation.score import SCORERS, Scorer
from harness.protocol.base import Protocol
from harness.protocol.models import add_kind, kind_of, remove_kind

P = TypeVar("P", bound=Protocol)


@dataclass(frozen=True)
class Kind(Generic[P]):
    """What a kind is made of; its name is the one value of the model's field `kind`."""

    model: type[P]
    plan: Plan[P]
    scorer: Scorer[P]


def register(kind: Kind[P]) -> None:
    """Makes a kind known to this process, from validation to scores.

    Raises ValueError if its name is taken, and TypeError if its model lacks what every kind must have (`words`).
    """
    add_kind(kind.model)
    name = kind_of(kind.model)
    PLANS[name], SCORERS[name] = kind.plan, kind.scorer


def unregister(name: str) -> None:
    """Takes back what `register` did."""
    remove_kind(name)
    del PLANS[name], SCORERS[name]
