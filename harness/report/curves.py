"""The curves of a record with their intervals, where the scores of its single episodes are at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.evaluation.score import Scores, mean
from harness.evaluation.summary import of_recorded
from harness.records.record import Record
from harness.report.figure import Figure
from harness.report.lines import Series, lines

WORDS = {
    "by_shot": ("shot (earlier presentations of the class)", "accuracy, %"),
    "by_step": ("step", "accuracy, %"),
    "by_subtask": ("subtask, in the order of the stream, from 0", "accuracy of its queries, %"),
    "iou_by_shot": ("shot (earlier presentations)", "IoU on the target, %"),
    "masking_by_shot": ("shot (earlier presentations)", "masking of the distractor, %"),
}
"""Curve to the labels of its two axes, in the order in which they are shown."""

TITLES = {
    "by_shot": "Accuracy by shot",
    "by_step": "Accuracy by step",
    "by_subtask": "Accuracy by subtask after the whole stream",
    "iou_by_shot": "IoU by shot",
    "masking_by_shot": "Masking by shot",
}


def curve(record: Record, name: str, scores: Scores | None, label: str, number: int | None = None) -> Series | None:
    """A record's curve as a series with 95 % intervals over episodes; None if it has no such curve."""
    values = record.curves.get(name)
    if not values:
        return None
    half = [] if scores is None else _halves(_episodes(name, scores), len(values))
    return Series(label, [*range(len(values))], values, half, number)


def curve_figures(runs: Sequence[tuple[Record, Scores | None, str]]) -> Iterator[Figure]:
    """Every curve of records with the scores of their episodes and what they are called; of one alone, with what it
    would be without any feedback."""
    for name, (x_label, y_label) in WORDS.items():
        drawn = [curve(record, name, scores, label, place) for place, (record, scores, label) in enumerate(runs)]
        if len(runs) == 1:
            drawn.append(curve(runs[0][0], f"{name}, null feedback", None, "the same without any feedback", 3))
        series = [each for each in drawn if each]
        if series and len(series[0].x) > 1:
            yield lines(TITLES[name], x_label, y_label, series, bounds=(0, 100))


def _episodes(name: str, scores: Scores) -> np.ndarray | None:
    """The values behind a curve in each episode, [E, K], as shares; NaN where an episode has none."""
    if name == "by_shot" and {"right", "count"} <= scores.keys():
        with np.errstate(invalid="ignore"):
            return scores["right"] / scores["count"]
    key = {"by_step": "by_step", "by_subtask": "by_subtask", "iou_by_shot": "iou", "masking_by_shot": "masking"}.get(
        name
    )
    return scores.get(key) if key else None


def _halves(values: np.ndarray | None, length: int) -> Sequence[float]:
    if values is None or values.ndim != 2 or values.shape[1] < length:
        return []
    found = of_recorded([mean(values[:, place]) for place in range(length)])
    halves = [each.interval for each in found if each.interval is not None]
    return halves if len(halves) == length else []
