"""What accuracy costs: entries over a cost on a logarithmic axis, with those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.figure import Figure, mark_key, shape
from harness.report.svg import add, bottom_axis, drawing, left_axis, linear, markup, powers, tooltip

_LEFT, _TOP, _WIDTH, _HEIGHT = 48, 40, 460, 320
_NAMED, _LISTED, _LETTERS = 6, 60, 26
"""Points that are named in the picture at most; points up to which all are listed below it, else the frontier alone."""


@dataclass(frozen=True)
class Point:
    """An entry: what it costs and what it scores, in per cent."""

    label: str
    cost: float
    score: float


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in one and equals or beats in the other, cheapest first."""
    best: list[Point] = []
    for each in sorted(points, key=lambda point: (point.cost, -point.score)):
        if not best or each.score > best[-1].score:
            best.append(each)
    return best


def scatter(caption: str, x_label: str, y_label: str, points: Sequence[Point]) -> Figure:
    """The points; those on the frontier are drawn as triangles, joined by a line, and named where there is room."""
    drawn = drawing(_WIDTH, _HEIGHT, caption)
    right, bottom = _WIDTH - 14, _HEIGHT - 46
    across = powers([each.cost for each in points], _LEFT, right)
    up = linear([each.score for each in points], bottom, _TOP, (0, 100))
    bottom_axis(drawn, across, _TOP, bottom, x_label)
    left_axis(drawn, up, _LEFT, right, y_label)
    front = pareto(points)
    best = set(front)
    if len(front) > 1:
        first, *others = front
        steps = "".join(f"H{across(each.cost):.1f}V{up(each.score):.1f}" for each in others)
        add(drawn, "path", d=f"M{across(first.cost):.1f} {up(first.score):.1f}{steps}", class_="frontier")
    for each in sorted(points, key=lambda point: point in best):  # none of the best is covered by another
        mark = shape(drawn, 2 if each in best else 0, across(each.cost), up(each.score), 4.5)
        tooltip(mark, f"{each.label}: {each.score:.1f}, {x_label} {each.cost:,.4g}")
    taken: list[tuple[float, float]] = []
    for each in reversed(front):
        x, y = across(each.cost), up(each.score)
        if len(taken) < _NAMED and all(abs(y - other) > 13 or abs(x - at) > 90 for at, other in taken):
            taken.append((x, y))
            # Left of the mark there is no line of the frontier at its height; where there is no room, above or beside.
            place: dict[str, Any] = {"x": x - 8, "y": y + 4, "text_anchor": "end"}
            if x < _LEFT + 7 * len(each.label[:_LETTERS]):
                place = {"x": x, "y": y - 9} if y > _TOP + 14 else {"x": x + 8, "y": y + 4}
            add(drawn, "text", each.label[:_LETTERS], class_="tick named", **place)
    keys = [
        mark_key(2, "no other entry is cheaper and as good, or better at that cost"),
        mark_key(0, "other entries"),
    ]
    listed = points if len(points) <= _LISTED else front
    rows = [[each.label, f"{each.cost:,.4g}", f"{each.score:.1f}"] for each in listed]
    return Figure(caption, markup(drawn), keys, ["entry", x_label, y_label], rows)
