"""Interval plots: a line an entry, with what was measured and what was published told apart by shape and colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from markupsafe import Markup

from harness.report.figure import Figure, Key, mark_key, shape, swatch
from harness.report.svg import Scale, add, bottom_axis, drawing, linear, markup, tooltip

MEASURED, PUBLISHED = 0, 3
"""Numbers of the series: blue circles, and diamonds of another colour."""

_TOP = 14


@dataclass(frozen=True)
class Interval:
    """One line: a value in per cent with the bounds of its interval (or of the spread that was printed), the same in
    words, and the value of each seed. `label` is a name, and after ', ' what tells it from others of that name."""

    label: str
    mean: float
    bounds: tuple[float, float] | None
    text: str
    published: bool
    seeds: Sequence[float] = ()
    note: str = ""


@dataclass(frozen=True)
class _Layout:
    """Widths in user units, the height of a line, how far its mark stands below its middle, and letters of a label."""

    width: float
    left: float
    right: float
    step: float
    below: float
    letters: int


_WIDE = _Layout(width=760, left=252, right=84, step=30, below=0, letters=38)
_NARROW = _Layout(width=360, left=10, right=10, step=38, below=7, letters=36)
"""Labels at the left of the marks, and for screens that have no room for both, above them."""


def forest(caption: str, axis: str, lines: Sequence[Interval]) -> Figure:
    """The intervals, best first."""
    ordered = sorted(lines, key=lambda each: -each.mean)
    rows = [
        [
            each.label,
            each.text,
            "published" if each.published else "measured",
            ", ".join(f"{x:.1f}" for x in each.seeds),
        ]
        for each in ordered
    ]
    wide, narrow = (_picture(caption, axis, ordered, layout) for layout in (_WIDE, _NARROW))
    return Figure(caption, wide, [*_keys(ordered)], ["entry", axis, "source", "seeds"], rows, narrow)


def _picture(caption: str, axis: str, ordered: Sequence[Interval], layout: _Layout) -> Markup:
    bottom = _TOP + layout.step * len(ordered)
    drawn = drawing(layout.width, bottom + 44, caption)
    ends = [end for each in ordered for end in (each.mean, *(each.bounds or ()), *each.seeds)]
    scale = linear(ends, layout.left, layout.width - layout.right, (0, 100))
    bottom_axis(drawn, scale, _TOP - 6, bottom, axis)
    for number, each in enumerate(ordered):
        _line(drawn, scale, each, _TOP + layout.step * (number + 0.5), layout)
    return markup(drawn)


def _line(parent: Element, scale: Scale, each: Interval, middle: float, layout: _Layout) -> None:
    series, y = PUBLISHED if each.published else MEASURED, middle + layout.below
    group = add(parent, "g", class_="row")
    tooltip(group, f"{each.label}: {each.text}" + (f"; {each.note}" if each.note else ""))
    add(group, "rect", x=0, y=middle - layout.step / 2, width=layout.width, height=layout.step, class_="hit")
    name, _, detail = each.label.partition(", ")
    if layout.below:
        label = _cut(each.label, layout.letters - len(each.text))
        add(group, "text", label, x=2, y=middle - 5, class_="name")
        add(group, "text", each.text, x=layout.width - 2, y=middle - 5, class_="value", text_anchor="end")
    else:
        place = {"x": layout.left - 12, "text_anchor": "end"}
        add(group, "text", _cut(name, layout.letters - 9), y=middle + (-2 if detail else 4), class_="name", **place)
        if detail:
            add(group, "text", _cut(detail, layout.letters), y=middle + 11, class_="tick small", **place)
        add(group, "text", each.text, x=layout.width - 4, y=middle + 4, class_="value", text_anchor="end")
    if each.bounds:
        low, high = (scale(max(0.0, min(100.0, bound))) for bound in each.bounds)
        add(group, "line", x1=low, x2=high, y1=y, y2=y, class_=f"bar s{series}")
        for x in (low, high):
            add(group, "line", x1=x, x2=x, y1=y - 4, y2=y + 4, class_=f"bar s{series}")
    for seed in each.seeds if len(each.seeds) > 1 else ():
        add(group, "circle", cx=scale(seed), cy=y + 7, r=2, class_="seed")
    shape(group, series, scale(each.mean), y, 4)


def _seed_key() -> Markup:
    drawn = swatch(16, 14)
    for x in (4, 8, 12):
        add(drawn, "circle", cx=x, cy=7, r=2, class_="seed")
    return markup(drawn)


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _keys(ordered: Sequence[Interval]) -> Iterator[Key]:
    if any(not each.published for each in ordered):
        yield mark_key(MEASURED, "measured here, with its 95 % interval")
    if any(len(each.seeds) > 1 for each in ordered):
        yield Key(_seed_key(), "below: its seeds")
    if any(each.published for each in ordered):
        yield mark_key(PUBLISHED, "published elsewhere, with the spread that was printed")
