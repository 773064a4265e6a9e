"""The curves of a record with their intervals, where the scores of its single episodes are at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.evaluation.intervals import of_values
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


def mean_curve(
    records: Sequence[Record], name: str, scores: Sequence[Scores | None], label: str, number: int | None = None
) -> Series | None:
    """The mean of a curve over records of several seeds, with 95 % intervals over seeds and episodes; None if one of
    them has no such curve."""
    if len(records) == 1:
        return curve(records[0], name, scores[0] if scores else None, label, number)
    each = [record.curves.get(name, []) for record in records]
    if len({*map(len, each)}) > 1 or not each[0]:
        return None
    values = np.mean(each, axis=0).tolist()
    found = [_episodes(name, one) for one in scores if one is not None]
    behind = [one for one in found if one is not None and one.ndim == 2 and one.shape[1] >= len(values)]
    if len(behind) < len(records) or len({len(one) for one in behind}) > 1:
        return Series(label, [*range(len(values))], values, [], number)
    stacked = np.stack(behind)
    half = [of_values(stacked[:, :, place]).half for place in range(len(values))]
    return Series(label, [*range(len(values))], values, [] if np.isnan(half).any() else half, number)


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
