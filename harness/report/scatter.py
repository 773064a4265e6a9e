"""What accuracy costs: entries over a cost on a logarithmic axis, with those that no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from harness.report.figure import Figure, mark_key, shape
from harness.report.label_places import Box, label_place, mark_box
from harness.report.svg import Scale, add, bottom_axis, drawing, left_axis, linear, markup, powers, tooltip

_LEFT, _TOP, _WIDTH, _HEIGHT = 44, 40, 400, 310
_NAMED, _LISTED, _LETTERS = 6, 60, 26
"""Points that are named in the picture at most; points up to which all are listed below it, else the frontier alone;
letters of a name."""


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
    right, bottom = _WIDTH - 20, _HEIGHT - 46
    across = powers([each.cost for each in points], _LEFT, right)
    up = linear([each.score for each in points], bottom, _TOP, (0, 100))
    bottom_axis(drawn, across, _TOP, bottom, x_label)
    left_axis(drawn, up, _LEFT, right, y_label)
    front = pareto(points)
    best = set(front)
    _frontier(drawn, [(across(each.cost), up(each.score)) for each in front])
    for each in sorted(points, key=lambda point: point in best):  # none of the best is covered by another
        mark = shape(drawn, 2 if each in best else 0, across(each.cost), up(each.score), 4.5)
        tooltip(mark, f"{each.label}: {each.score:.1f}, {x_label} {each.cost:,.4g}")
    _name(drawn, points, front, across, up, Box(_LEFT - 4, _TOP - 8, right + 16, bottom - 2))
    keys = [
        mark_key(2, "no other entry is cheaper and as good, or better at that cost"),
        mark_key(0, "other entries"),
    ]
    listed = points if len(points) <= _LISTED else front
    rows = [[each.label, f"{each.cost:,.4g}", f"{each.score:.1f}"] for each in listed]
    return Figure(caption, markup(drawn), keys, ["entry", x_label, y_label], rows)


def _frontier(parent: Element, places: Sequence[tuple[float, float]]) -> None:
    if len(places) > 1:
        (x, y), *others = places
        steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in others)
        add(parent, "path", d=f"M{x:.1f} {y:.1f}{steps}", class_="frontier")


def _name(
    parent: Element, points: Sequence[Point], front: Sequence[Point], across: Scale, up: Scale, room: Box
) -> None:
    """Names of the frontier's points, the best first."""
    marks = [mark_box(across(each.cost), up(each.score)) for each in points]
    edges = []
    for before, after in pairwise(front):
        left, right, low, high = across(before.cost), across(after.cost), up(before.score), up(after.score)
        edges += [Box(left, low - 1, right, low + 1), Box(right - 1, high, right + 1, low)]
    for each in front[::-1][:_NAMED]:
        text = each.label if len(each.label) <= _LETTERS else each.label[: _LETTERS - 1] + "…"
        found = label_place(text, across(each.cost), up(each.score), marks, edges, room)
        if found:
            marks.append(found.box)
            add(parent, "text", text, x=found.x, y=found.y, text_anchor=found.anchor, class_="tick named")
