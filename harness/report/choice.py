"""Which episodes of a run are shown: those that tell a reader most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.shown_episodes import ShownEpisodes
from harness.report.step_words import named_class, softmax

EXTREMES = 4
"""Worst and best episodes that are shown."""

SINGLE = 8
"""The same of single images, which take less room."""


@dataclass(frozen=True)
class Chosen:
    """Numbers of episodes that were chosen alike, and what to know of the choice ('' for nothing)."""

    title: str
    note: str
    numbers: Sequence[int]


def by_score(values: np.ndarray) -> list[Chosen]:
    """The worst episodes, worst first, and the best, best first, of scores [E]; of ties, some from all over the test.

    None of fewer episodes than twice those that are shown.
    """
    values = np.round(values, 9)
    if len(values) < 2 * EXTREMES:
        return []
    if values.min() == values.max():
        note = f"Every episode earned {values[0]:.1f} %; these are evenly spaced."
        return [Chosen("Some of them", note, _evenly(np.arange(len(values)), EXTREMES))]
    worst = _lowest("Worst", values, values, ())
    return [worst, _lowest("Best", -values, values, worst.numbers)]


def _lowest(title: str, order: np.ndarray, values: np.ndarray, taken: Sequence[int]) -> Chosen:
    """The episodes first in `order` that are not `taken`; of those that tie for the last places some, evenly spaced."""
    first = np.argsort(order, kind="stable")[:EXTREMES]
    last = order[first[-1]]
    apart = [int(number) for number in first if order[number] < last]
    tied = np.flatnonzero(order == last)
    places = EXTREMES - len(apart)
    note = ""
    if len(tied) > places:
        shown = f"these {places} are" if places > 1 else "this is one"
        note = f"{len(tied)} episodes earned {values[tied[0]]:.1f} %; {shown} chosen evenly from them."
    return Chosen(title, note, [*apart, *_evenly(np.setdiff1d(tied, taken), places)])


def _evenly(numbers: np.ndarray, count: int) -> list[int]:
    places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)
    found: list[int] = numbers[places].tolist()
    return found


def by_confidence(shown: ShownEpisodes) -> list[Chosen]:
    """Of single images with their answers, the wrong ones that the method was surest of, and the right ones that it was
    least sure of: their scores alone, 0 and 100 %, are ties."""
    assert shown.logits is not None
    logits = shown.logits[0]
    sure = softmax(logits).max(1)
    right = named_class(logits) == shown.plan.target[:, 0]
    known = np.isfinite(sure)
    wrong_first = np.flatnonzero(known & ~right)[np.argsort(-sure[known & ~right], kind="stable")]
    right_first = np.flatnonzero(known & right)[np.argsort(sure[known & right], kind="stable")]
    of = f"Of the {len(sure)} images that were played again, {int(right.sum())} were answered right."
    groups = [
        Chosen("Wrong, and surest of it", of, shown.plan.episode[wrong_first[:SINGLE]].tolist()),
        Chosen("Right, and least sure of it", "", shown.plan.episode[right_first[:SINGLE]].tolist()),
    ]
    return [group for group in groups if group.numbers]
