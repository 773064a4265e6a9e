"""How far the boards reach what a table prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.tables.cells import Cell, ComputedValue, Filled, MeasuredValue, whole_trainings

FAR = 5.0
"""Points below the published number from which a measured one is far from it, by the end of its interval too."""

SEEDS = 3
"""Seeds by which a number counts as repeated; what begins from the same weights has one, as far as they go."""


@dataclass(frozen=True)
class Reached:
    """How many published numbers of a table (costs left out) are reached, measured but not reached, not measured.

    `repeated` are those that are reached by the mean over SEEDS seeds or more, `far` those that are measured more than
    FAR points below.
    """

    name: str
    title: str
    reached: int
    repeated: int
    below: int
    far: int
    missing: int

    @property
    def published(self) -> int:
        """How many there are."""
        return self.reached + self.below + self.missing

    @property
    def counts(self) -> dict[str, int]:
        """The counts alone, by name."""
        return {name: getattr(self, name) for name in ("reached", "repeated", "below", "far", "missing")}

    def __str__(self) -> str:
        repeated = f" ({self.repeated or 'none'} of them by {SEEDS} seeds or more)" if self.reached else ""
        far = f" ({self.far or 'none'} of them by more than {FAR:g} points)" if self.below else ""
        return (
            f"{self.reached} of {self.published} reached{repeated}, {self.below} measured below{far}, "
            f"{self.missing} not measured"
        )


def reached(filled: Filled) -> Reached:
    """Counts the published numbers of a table that the boards reach: by the upper end of the interval."""
    counts: dict[str, int] = {"reached": 0, "repeated": 0, "below": 0, "far": 0, "missing": 0}
    for cells in filled.cells:
        for cell, column in zip(cells, filled.printed.table.columns, strict=True):
            if cell.published and not column.cost:
                counts[standing(cell)] += 1
                counts["repeated"] += standing(cell) == "reached" and _seeds(cell) >= SEEDS
                counts["far"] += cell.measured is not None and cell.published.value - _end(cell.measured) > FAR
    return Reached(filled.printed.name, filled.printed.table.title, **counts)


def _seeds(cell: Cell) -> int:
    return whole_trainings(cell.measured.entry) if isinstance(cell.measured, MeasuredValue) else 0


def standing(cell: Cell) -> Literal["reached", "below", "missing"]:
    """How what was measured stands to what was published: below it, if its whole interval is."""
    if cell.published is None or cell.measured is None:
        return "missing"
    return "reached" if _end(cell.measured) >= cell.published.value else "below"


def _end(measured: MeasuredValue | ComputedValue) -> float:
    """The upper end of the interval; the value itself where it has none."""
    summary = measured.summary if isinstance(measured, MeasuredValue) else None
    return summary.bounds[1] if summary and summary.bounds else measured.value
