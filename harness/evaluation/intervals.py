"""95 % intervals of a mean over seeds and episodes, and of the difference of two on the same episodes.

Seeds and episodes are crossed: every seed answers the same episodes, and the mean errs by the seeds and by the episodes
that happened to be drawn. Each part has Student's interval, of the seeds' means and of the episodes' means over seeds,
and their half-widths add as squares (the square-and-add method of Zou and Donner, Statistics in Medicine 2008), which
keeps the coverage where there are two or three seeds and pooled degrees of freedom lose it. A single seed tells nothing
of other seeds: its interval is over episodes and speaks of these trained weights.

A mean near 0 or 100 % has no symmetric interval. Its bounds are those of Clopper and Pearson (Biometrika 1934) for as
many trials as give the width that was found, as Korn and Graubard (Survey Methodology 1998) have them for surveys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

TAIL = 0.025
"""What each side of an interval leaves out."""

_Z = 1.959963984540054
"""The quantile of the normal distribution at 1 - TAIL."""

_RECORDED = 1.96
"""The factor by which records' half-widths exceed the standard error (`harness.evaluation.score.mean`)."""

_ROUNDING, _MANY = 1e-10, 1e9
"""A half-width or a difference that is rounding alone; and trials so many that the bounds are those of a normal
distribution."""


@dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its symmetric interval, per cent, and the episodes that it is over."""

    mean: float
    half: float
    episodes: int


class Change(NamedTuple):
    """The difference of two means, per cent, and the half-width of its interval: None with a single episode, which
    tells nothing of others."""

    mean: float
    half: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and zero lies outside it by more than rounding."""
        return self.half is not None and abs(self.mean) > self.half + 100 * _ROUNDING

    def text(self, digits: int = 2) -> str:
        """'+1.62 ± 0.22', or '+1.62' without an interval."""
        mean = f"{self.mean:+.{digits}f}"
        return mean if self.half is None else f"{mean} ± {self.half:.{digits}f}"


def of_values(values: np.ndarray) -> Estimate:
    """The estimate from the score of each seed in each episode, shares [S, E]; episodes with a NaN are left out."""
    values = values[:, ~np.isnan(values).any(0)]
    half = math.hypot(_half(values.mean(0)), _half(values.mean(1)))
    return Estimate(100 * float(values.mean()), 100 * half, values.shape[1])


def of_records(means: np.ndarray, halves: np.ndarray, episodes: Sequence[int]) -> list[Estimate]:
    """The estimates of several entries from what their records say of each seed, per cent: [entries, seeds] each, and
    the episodes (at least two) of each entry.

    Without single episodes it is not known how closely the errors of the seeds go together: they are taken to be the
    same.
    """
    seeds = means.shape[1]
    spreads = means.std(1, ddof=1) if seeds > 1 else np.zeros(len(means))
    factor = quantile(seeds - 1) if seeds > 1 else 0.0
    found = zip(means.mean(1).tolist(), halves.mean(1).tolist(), spreads.tolist(), episodes, strict=True)
    return [
        Estimate(mean, math.hypot(half / _RECORDED * quantile(count - 1), factor * spread / math.sqrt(seeds)), count)
        for mean, half, spread, count in found
    ]


def bounds(estimates: Sequence[Estimate]) -> list[tuple[float, float]]:
    """Lower and upper bound of each mean of scores between 0 and 100, per cent."""
    from scipy.special import betaincinv

    asked = [_trials(each) for each in estimates]
    shares = np.array([each.mean / 100 for each in estimates])
    trials = np.array([np.nan if each is None else each for each in asked])
    hits = shares * trials
    low, high = 100 * betaincinv(hits, trials - hits + 1, TAIL), 100 * betaincinv(hits + 1, trials - hits, 1 - TAIL)
    # Not a number where the trials are too few to be any, which no scores give.
    low[np.isnan(low) | (shares <= 0)], high[np.isnan(high) | (shares >= 1)] = 0.0, 100.0
    return [
        _even(each) if count is None else ends
        for each, count, ends in zip(estimates, asked, zip(low.tolist(), high.tolist(), strict=True), strict=True)
    ]


def _even(estimate: Estimate) -> tuple[float, float]:
    half = estimate.half if estimate.half / 100 > _ROUNDING else 0.0  # the same in every episode, as by guessing
    return estimate.mean - half, estimate.mean + half


def _trials(estimate: Estimate) -> float | None:
    """As many trials as give a binomial share the width of an estimate; None where they are too many to tell it
    from a normal one, or it has no width."""
    share, half = estimate.mean / 100, estimate.half / 100
    if not 0 < share < 1:
        return float(estimate.episodes)
    if half <= _ROUNDING:
        return None
    trials = share * (1 - share) * (_Z / half) ** 2
    return None if trials > _MANY else trials


def paired(first: np.ndarray, second: np.ndarray) -> Change:
    """The difference of two means from shares [S, E] on the same episodes; those with a NaN are left out.

    The number of seeds may differ, since seeds of two methods have nothing in common. The mean is not a number where no
    episode is left.
    """
    both = ~(np.isnan(first).any(0) | np.isnan(second).any(0))
    first, second = first[:, both], second[:, both]
    change = by_episode(first, second)
    if len(change) < 2:
        return Change(100 * float(change[0]) if len(change) else math.nan, None)
    half = math.hypot(_half(change), _half(first.mean(1)), _half(second.mean(1)))
    return Change(100 * float(change.mean()), 100 * half)


def by_episode(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The difference in each episode of two entries' means over seeds, shares [S, E] each: 0 where they differ by
    rounding alone, as means of equal numbers over three seeds and over one do."""
    change: np.ndarray = first.mean(0) - second.mean(0)
    return np.where(np.abs(change) > _ROUNDING, change, 0.0)


def unpaired(first: Estimate, second: Estimate) -> Change:
    """The same from two estimates alone, as if they were on different episodes: on the same ones it is too wide."""
    return Change(first.mean - second.mean, math.hypot(first.half, second.half))


@cache
def quantile(freedom: int) -> float:
    """Student's quantile at 1 - TAIL."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - TAIL))


def _half(values: np.ndarray) -> float:
    """The half-width of Student's interval of the mean of independent values; 0 for a single one."""
    count = len(values)
    return quantile(count - 1) * float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
