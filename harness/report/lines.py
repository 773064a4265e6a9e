"""Curves: series over a common axis, with bands for their intervals and shaded stages of training behind them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from xml.etree.ElementTree import Element

from markupsafe import Markup

from harness.report.figure import DASHES, Figure, line_key, shape
from harness.report.svg import Scale, add, bottom_axis, drawing, left_axis, linear, markup, tick_text, tooltip

_LEFT, _TOP = 52, 40
_WIDE, _NARROW, _LOW, _MARKS = 720, 380, 260, 15
"""Widths of a picture and of one for a phone, the height of that, and marks along a curve at most."""

_SPAN, _CLEAR = 0.05, 12
"""The least share of its bounds that an axis shows, and how far the last mark stands from the one before it."""


@dataclass(frozen=True)
class Series:
    """Values `y` at `x`; `half` are the halves of their intervals, empty where they are not known. The line of a
    `broken` one is interrupted where a stage ends: what it measures is another thing in each."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] = ()
    number: int | None = None
    broken: bool = False


@dataclass(frozen=True)
class Stage:
    """A stretch of the axis with a name."""

    name: str
    begin: float
    end: float


def lines(
    caption: str,
    x_label: str,
    y_label: str,
    series: Sequence[Series],
    *,
    stages: Sequence[Stage] = (),
    bounds: tuple[float, float] | None = None,
    from_zero: bool = False,
    height: float = 320,
) -> Figure:
    """The series, each with a colour, dashes and marks of its own; the upright axis of rates is `from_zero`."""
    numbered = [each if each.number is not None else replace(each, number=place) for place, each in enumerate(series)]
    wide, narrow = (
        _picture(caption, (x_label, y_label), numbered, stages, bounds, [0.0] if from_zero else [], size)
        for size in ((_WIDE, height), (_NARROW, min(height, _LOW)))
    )
    keys = [line_key(each.number or 0, each.name) for each in numbered]
    return Figure(caption, wide, keys, [x_label, *(each.name for each in series)], _rows(series), narrow)


def _picture(
    caption: str,
    labels: tuple[str, str],
    series: Sequence[Series],
    stages: Sequence[Stage],
    bounds: tuple[float, float] | None,
    besides: Sequence[float],
    size: tuple[float, float],
) -> Markup:
    width, height = size
    right, bottom = width - 18, height - 46
    drawn = drawing(width, height, caption)
    xs = [x for each in series for x in each.x] + [end for each in stages for end in (each.begin, each.end)]
    ys = [y + sign * half for each in series for y, half in _with_half(each) for sign in (-1, 1)]
    across, up = _tight(xs, _LEFT, right), linear([*ys, *besides, *_least_span(ys, bounds)], bottom, _TOP, bounds)
    ends = [stage.end for stage in stages]
    for number, stage in enumerate(stages):
        _shade(drawn, stage, across, bottom, "odd" if number % 2 else "even")
    bottom_axis(drawn, across, _TOP, bottom, labels[0])
    left_axis(drawn, up, _LEFT, right, labels[1])
    for each in series:
        _curve(drawn, each, across, up, _MARKS if width >= _WIDE else _MARKS // 2, ends if each.broken else ())
    return markup(drawn)


def _shade(parent: Element, stage: Stage, across: Scale, bottom: float, style: str) -> None:
    left, end = across(stage.begin), across(stage.end)
    group = add(parent, "g", class_="stage")
    tooltip(group, f"stage {stage.name}: {tick_text(stage.begin)} to {tick_text(stage.end)}")
    add(group, "rect", x=left, y=_TOP, width=max(0.0, end - left), height=bottom - _TOP, class_=style)
    if end - left > 7 * len(stage.name):
        add(group, "text", stage.name, x=(left + end) / 2, y=_TOP + 14, class_="stage-name", text_anchor="middle")


def _curve(parent: Element, one: Series, across: Scale, up: Scale, marks: int, ends: Sequence[float]) -> None:
    number = one.number or 0
    group = add(parent, "g", class_="series")
    tooltip(group, one.name)
    if one.half:
        low, high = (
            [up(max(up.low, min(up.high, y + sign * half))) for y, half in _with_half(one)] for sign in (-1, 1)
        )
        xs = [*map(across, one.x)]
        edge = [*zip(xs, high, strict=True), *reversed([*zip(xs, low, strict=True)])]
        path = _path([point for point in edge if math.isfinite(point[1])]) + "Z"
        add(group, "path", d=path, class_=f"band s{number % 8}")
    finite = [(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
    parts = [[*part] for _, part in groupby(finite, key=lambda point: bisect_left(ends, point[0]))]
    path = "".join(_path([(across(x), up(y)) for x, y in part]) for part in parts)
    add(group, "path", d=path or "M0 0", class_=f"line s{number % 8}", stroke_dasharray=DASHES[number % 8])
    last, apart = -math.inf, (across.end - across.start) / marks - 0.5
    for place, (x, y) in enumerate((across(x), up(y)) for x, y in finite):
        # Points of a long stage are far apart, others dense; the last one, which a reader looks for, has a mark.
        if x - last >= (_CLEAR if place == len(finite) - 1 else apart):
            shape(group, number, x, y, 3.5)
            last = x


def _least_span(values: Sequence[float], bounds: tuple[float, float] | None) -> Sequence[float]:
    """What else an axis with bounds has to show, so that a change of no importance does not fill it."""
    found = [value for value in values if math.isfinite(value)]
    if bounds is None or not found:
        return ()
    middle, half = (min(found) + max(found)) / 2, _SPAN * (bounds[1] - bounds[0]) / 2
    middle = min(max(middle, bounds[0] + half), bounds[1] - half)
    return middle - half, middle + half


def _rows(series: Sequence[Series]) -> list[list[str]]:
    """The numbers: a line for each place on the axis."""
    at = [{x: (y, half) for x, (y, half) in zip(each.x, _with_half(each), strict=True)} for each in series]
    places = sorted({x for each in at for x in each})
    return [[f"{x:g}", *(_number(*each[x]) if x in each else "–" for each in at)] for x in places]


def _number(value: float, half: float) -> str:
    if not math.isfinite(value):
        return "–"
    text = f"{value:.4g}"
    return f"{text} ± {half:.2g}" if half else text


def _with_half(series: Series) -> list[tuple[float, float]]:
    return [*zip(series.y, series.half or [0.0] * len(series.y), strict=True)]


def _tight(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale that ends where the values do."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return Scale(low, high if high > low else low + 1, start, end)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else "M0 0"
