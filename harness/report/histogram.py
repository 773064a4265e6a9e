"""How a score is distributed over episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from harness.report.figure import Figure
from harness.report.svg import add, bottom_axis, drawing, left_axis, linear, markup, tooltip

_LEFT, _TOP, _WIDTH, _NARROW, _HEIGHT, _BINS = 52, 40, 720, 380, 240, 20


def histogram(caption: str, x_label: str, values: np.ndarray) -> Figure:
    """Bars of 5 per cent each over `values` [E], in per cent."""
    counts, edges = np.histogram(values, bins=_BINS, range=(0, 100))
    bars = [*zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
    rows = [[f"{low:.0f} to {high:.0f}", str(count)] for count, low, high in bars]
    wide, narrow = (_picture(caption, x_label, bars, float(values.mean()), width) for width in (_WIDTH, _NARROW))
    return Figure(caption, wide, [], [x_label, "episodes"], rows, narrow)


def _picture(caption: str, x_label: str, bars: Sequence[tuple[int, float, float]], mean: float, width: float) -> Markup:
    drawn = drawing(width, _HEIGHT, caption)
    right, bottom = width - 18, _HEIGHT - 46
    across, up = linear([0, 100], _LEFT, right), linear([0, *(count for count, _, _ in bars)], bottom, _TOP)
    bottom_axis(drawn, across, _TOP, bottom, x_label)
    left_axis(drawn, up, _LEFT, right, "episodes")
    for count, low, high in bars:
        left, end, top = across(low), across(high), up(count)
        bar = add(drawn, "rect", x=left + 1, y=top, width=end - left - 2, height=bottom - top, class_="column s0")
        tooltip(bar, f"{low:.0f} to {high:.0f} %: {count} episodes")
    x, text = across(mean), f"mean {mean:.1f}"
    add(drawn, "line", x1=x, x2=x, y1=_TOP - 6, y2=bottom, class_="mean")
    # Above the bars, and clear of the name of the axis, which is at the left.
    place = (
        {"x": max(x, _LEFT + 100), "text_anchor": "middle"} if x < right - 30 else {"x": right, "text_anchor": "end"}
    )
    add(drawn, "text", text, y=_TOP - 10, class_="tick", **place)
    return markup(drawn)
