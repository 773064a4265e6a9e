"""How a score is distributed over episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from harness.report.figure import Figure
from harness.report.svg import Scale, add, bottom_axis, drawing, left_axis, linear, markup, tooltip

_LEFT, _TOP, _WIDTH, _NARROW, _HEIGHT = 52, 40, 720, 380, 240

_BIN, _FINE, _FEWEST = 5.0, 0.2, 10
"""Per cent of a bar at least, the finest steps of a score that bars are fitted to, and bars at least."""

Bar = tuple[int, float, float, str]
"""Episodes, the ends of a bar on the axis, and the scores it stands for in words."""


def histogram(caption: str, x_label: str, values: np.ndarray) -> Figure:
    """Bars over `values` [E], in per cent: 5 wide, or as many steps of the score as are at least that.

    An accuracy over 15 answers has steps of 6.7 per cent; bars of another width would stand for two of its values here
    and for none there.
    """
    bars = _bars(values)
    rows = [[text, str(count)] for count, _, _, text in bars]
    wide, narrow = (_picture(caption, x_label, bars, float(values.mean()), width) for width in (_WIDTH, _NARROW))
    return Figure(caption, wide, [], [x_label, "episodes"], rows, narrow)


def _bars(values: np.ndarray) -> list[Bar]:
    step = _step(values)
    if step is None:
        counts, edges = np.histogram(values, bins=round(100 / _BIN), range=(0, 100))
        texts = [f"{low:.0f} to {low + _BIN:.0f}" for low in edges[:-1]]
        return [*zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), texts, strict=True)]
    each = max(1, math.ceil(_BIN / step - 1e-9))
    levels = round(100 / step)
    bars: list[Bar] = []
    for top in range(levels, -1, -each):
        low, high = max(0, top - each + 1) * step, top * step
        inside = (values > low - step / 2) & (values < high + step / 2)
        text = f"{high:.1f}" if each == 1 else f"{low:.1f} to {high:.1f}"
        bars.append((int(inside.sum()), high - (each - 0.5) * step, high + step / 2, text))
    return bars[::-1]


def _step(values: np.ndarray) -> float | None:
    """The per cent of which all values are multiples, with 100; None if there is none, or it is finer than a bar is
    fitted to."""
    found = np.unique(np.round(np.append(values, 100.0), 6))
    for parts in range(_FEWEST, round(100 / _FINE) + 1):
        multiples = found * parts / 100
        if np.abs(multiples - np.round(multiples)).max() < 1e-7 * parts:
            return 100 / parts
    return None


def _picture(caption: str, x_label: str, bars: Sequence[Bar], mean: float, width: float) -> Markup:
    drawn = drawing(width, _HEIGHT, caption)
    right, bottom = width - 18, _HEIGHT - 46
    across = Scale(min(0.0, bars[0][1]), max(100.0, bars[-1][2]), _LEFT, right)
    up = linear([0, *(count for count, _, _, _ in bars)], bottom, _TOP)
    bottom_axis(drawn, across, _TOP, bottom, x_label)
    left_axis(drawn, up, _LEFT, right, "episodes")
    for count, low, high, text in bars:
        left, end, top = across(low), across(high), up(count)
        bar = add(drawn, "rect", x=left + 1, y=top, width=end - left - 2, height=bottom - top, class_="column s0")
        tooltip(bar, f"{text} %: {count} episodes")
    x, words = across(mean), f"mean {mean:.1f}"
    add(drawn, "line", x1=x, x2=x, y1=_TOP - 6, y2=bottom, class_="mean")
    # Above the bars, and clear of the name of the axis, which is at the left.
    place = (
        {"x": max(x, _LEFT + 100), "text_anchor": "middle"} if x < right - 30 else {"x": right, "text_anchor": "end"}
    )
    add(drawn, "text", words, y=_TOP - 10, class_="tick", **place)
    return markup(drawn)
