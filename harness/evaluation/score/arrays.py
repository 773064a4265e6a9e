"""Per-episode arrays of scores, and means with intervals over episodes."""

from __future__ import annotations

import numpy as np

Scores = dict[str, np.ndarray]
"""Named float64 arrays whose first axis is episodes; kept in the run folder, so that runs can be compared in pairs."""

Each = dict[str, np.ndarray]
"""Metric name to its value in each episode, as a share: float64 [E], NaN where an episode is left out."""

Metrics = dict[str, tuple[float, float, int]]
"""Metric name to (mean, half-width of the 95 % interval, episodes), in per cent."""


def joined(parts: list[Scores]) -> Scores:
    """Scores of several batches of episodes, in order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def first(scores: Scores, episodes: int) -> Scores:
    """The scores of the first `episodes` episodes."""
    return {name: values[:episodes] for name, values in scores.items()}


def mean(values: np.ndarray) -> tuple[float, float, int]:
    """Mean and half-width of the 95 % interval in per cent over episodes [E], NaN left out, and their number."""
    values = 100 * values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan"), 0
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean()), float(1.96 * spread / np.sqrt(len(values))), len(values)


def sums(values: np.ndarray, group: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of `values` [B, n] and their number, each float64 [B, depth], by group number [B, n]."""
    episodes = len(values)
    where = (np.arange(episodes)[:, None] * depth + group).ravel()
    total = np.bincount(where, values.ravel(), episodes * depth).reshape(episodes, depth)
    count = np.bincount(where, minlength=episodes * depth).reshape(episodes, depth).astype(np.float64)
    return total, count


def percent(values: np.ndarray) -> list[float]:
    """Shares [n] as a curve in per cent."""
    return [round(float(value), 4) for value in 100 * values]
