"""How a score is distributed over episodes."""

from __future__ import annotations

import numpy as np

from harness.report.figure import Figure
from harness.report.svg import add, bottom_axis, drawing, left_axis, linear, markup, tooltip

_LEFT, _TOP, _WIDTH, _HEIGHT, _BINS = 52, 40, 720, 240, 20


def histogram(caption: str, x_label: str, values: np.ndarray) -> Figure:
    """Bars of 5 per cent each over `values` [E], in per cent."""
    counts, edges = np.histogram(values, bins=_BINS, range=(0, 100))
    drawn = drawing(_WIDTH, _HEIGHT, caption)
    right, bottom = _WIDTH - 18, _HEIGHT - 46
    across, up = linear([0, 100], _LEFT, right), linear([0, *counts.tolist()], bottom, _TOP)
    bottom_axis(drawn, across, _TOP, bottom, x_label)
    left_axis(drawn, up, _LEFT, right, "episodes")
    rows = []
    for count, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        left, end, top = across(low), across(high), up(count)
        bar = add(drawn, "rect", x=left + 1, y=top, width=end - left - 2, height=bottom - top, class_="column s0")
        tooltip(bar, f"{low:.0f} to {high:.0f} %: {count} episodes")
        rows.append([f"{low:.0f} to {high:.0f}", str(count)])
    mean = across(float(values.mean()))
    add(drawn, "line", x1=mean, x2=mean, y1=_TOP, y2=bottom, class_="mean")
    add(drawn, "text", f"mean {values.mean():.1f}", x=mean - 6, y=_TOP + 12, class_="tick", text_anchor="end")
    return Figure(caption, markup(drawn), [], [x_label, "episodes"], rows)
