"""A metric with its interval as people see it: on boards, after a run, in tables, trackers and data frames.

Records hold the half-width of 1.96 standard errors; what is shown is computed from it, or from the scores of single
episodes, here and nowhere else, so that one quantity has one interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.evaluation import intervals

if TYPE_CHECKING:
    from harness.records.parts import Metric

_EVEN = 0.2
"""Sides of an interval that differ by less, as a share of its half-width, are printed as one."""


@dataclass(frozen=True, repr=False)
class Summary:
    """A metric, per cent: its mean, the bounds of its 95 % interval (None with one episode), and the means of its
    seeds."""

    mean: float
    bounds: tuple[float, float] | None
    means: tuple[float, ...]

    def __repr__(self) -> str:
        return f"{self.text(2)} %"

    @cached_property
    def spread(self) -> float | None:
        """The standard deviation over seeds, None with one seed."""
        if len(self.means) < 2:
            return None
        centre = math.fsum(self.means) / len(self.means)
        return math.sqrt(math.fsum((each - centre) ** 2 for each in self.means) / (len(self.means) - 1))

    @property
    def interval(self) -> float | None:
        """Half the width of the interval, which near 0 and 100 % does not lie evenly about the mean."""
        return None if self.bounds is None else (self.bounds[1] - self.bounds[0]) / 2

    def text(self, digits: int = 1) -> str:
        """'97.1 ± 0.2', or where the sides differ '99.8 +0.1 -0.4'."""
        form = f".{digits}f"
        if self.bounds is None:
            return format(self.mean, form)
        below, above = max(0.0, self.mean - self.bounds[0]), max(0.0, self.bounds[1] - self.mean)
        half = (below + above) / 2
        if abs(above - below) <= _EVEN * half or format(below, form) == format(above, form):
            return f"{self.mean:{form}} ± {half:{form}}"
        return f"{self.mean:{form}} +{above:{form}} -{below:{form}}"

    def as_json(self) -> dict[str, Any]:
        """The summary as plain data."""
        return {"mean": self.mean, "interval": self.interval, "bounds": self.bounds, "spread": self.spread}


def summaries(estimates: Sequence[intervals.Estimate | None], means: Sequence[Sequence[float]]) -> list[Summary]:
    """The summaries of several estimates (None with one episode) and the means of their seeds, at once: one by one, the
    calls take ten times as long as what is computed."""
    ends = iter(intervals.bounds([each for each in estimates if each is not None]))
    return [
        Summary(math.fsum(seeds) / len(seeds), None if estimate is None else next(ends), tuple(seeds))
        for estimate, seeds in zip(estimates, means, strict=True)
    ]


def of_values(values: np.ndarray) -> Summary:
    """The summary of a metric from the score of each seed in each episode, shares [S, E]; episodes with a NaN are left
    out."""
    found = values[:, ~np.isnan(values).any(0)]
    estimate = intervals.of_values(found) if found.shape[1] > 1 else None
    return summaries([estimate], [(100 * found.mean(1)).tolist()])[0]


def of_recorded(found: Sequence[tuple[float, float | None, int]]) -> list[Summary]:
    """The summaries of metrics of one seed each, from what records hold: mean, 1.96 standard errors (None with one
    episode), episodes."""
    known = [(mean, half, count) for mean, half, count in found if half is not None and count > 1]
    means, halves, counts = zip(*known, strict=True) if known else ((), (), ())
    estimates = iter(intervals.of_records(np.array(means)[:, None], np.array(halves)[:, None], counts) if known else [])
    each = [next(estimates) if half is not None and count > 1 else None for _, half, count in found]
    return summaries(each, [[mean] for mean, _, _ in found])


def of_metrics(metrics: dict[str, Metric]) -> dict[str, Summary]:
    """The summaries of the metrics of one record."""
    found = of_recorded([(each.mean, each.interval, each.episodes) for each in metrics.values()])
    return dict(zip(metrics, found, strict=True))
