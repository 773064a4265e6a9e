"""Interval plots: a line an entry, with what was measured and what was published told apart by shape and colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.figure import Figure, mark_key, shape
from harness.report.svg import add, bottom_axis, drawing, linear, markup, tooltip

MEASURED, PUBLISHED = 0, 3
"""Numbers of the series: blue circles, and diamonds of another colour."""

_LEFT, _WIDTH, _STEP, _TOP = 236, 760, 24, 14
_LETTERS = 30


@dataclass(frozen=True)
class Interval:
    """One line: a value in per cent with the bounds of its interval (or of the spread that was printed), the same in
    words, and the value of each seed."""

    label: str
    mean: float
    bounds: tuple[float, float] | None
    text: str
    published: bool
    seeds: Sequence[float] = ()
    note: str = ""


def forest(caption: str, axis: str, lines: Sequence[Interval]) -> Figure:
    """The intervals, best first."""
    ordered = sorted(lines, key=lambda each: -each.mean)
    bottom = _TOP + _STEP * len(ordered)
    drawn = drawing(_WIDTH, bottom + 44, caption)
    ends = [end for each in ordered for end in (each.mean, *(each.bounds or ()), *each.seeds)]
    scale = linear(ends, _LEFT, _WIDTH - 84, (0, 100))
    bottom_axis(drawn, scale, _TOP - 6, bottom, axis)
    for number, each in enumerate(ordered):
        y = _TOP + _STEP * (number + 0.5)
        series = PUBLISHED if each.published else MEASURED
        group = add(drawn, "g", class_="row")
        tooltip(group, f"{each.label}: {each.text}" + (f"; {each.note}" if each.note else ""))
        add(group, "rect", x=0, y=y - _STEP / 2, width=_WIDTH, height=_STEP, class_="hit")
        name = each.label if len(each.label) <= _LETTERS else each.label[: _LETTERS - 1] + "…"
        add(group, "text", name, x=_LEFT - 12, y=y + 4, class_="name", text_anchor="end")
        if each.bounds:
            low, high = (scale(max(0.0, min(100.0, bound))) for bound in each.bounds)
            add(group, "line", x1=low, x2=high, y1=y, y2=y, class_=f"bar s{series}")
            for x in (low, high):
                add(group, "line", x1=x, x2=x, y1=y - 4, y2=y + 4, class_=f"bar s{series}")
        for seed in each.seeds if len(each.seeds) > 1 else ():
            add(group, "circle", cx=scale(seed), cy=y + 7, r=2, class_="seed")
        shape(group, series, scale(each.mean), y, 4)
        add(group, "text", each.text, x=_WIDTH - 4, y=y + 4, class_="value", text_anchor="end")
    keys = []
    if any(not each.published for each in ordered):
        keys.append(mark_key(MEASURED, "measured here, with its 95 % interval"))
    if any(len(each.seeds) > 1 for each in ordered):
        keys.append(mark_key(6, "small points below: the seeds"))
    if any(each.published for each in ordered):
        keys.append(mark_key(PUBLISHED, "published elsewhere, with the spread that was printed"))
    rows = [
        [
            each.label,
            each.text,
            "published" if each.published else "measured",
            ", ".join(f"{x:.1f}" for x in each.seeds),
        ]
        for each in ordered
    ]
    return Figure(caption, markup(drawn), keys, ["entry", axis, "source", "seeds"], rows)
