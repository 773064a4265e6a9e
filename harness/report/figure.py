"""What a figure on a page is: a picture, its key, and its numbers as a table for those who would rather read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from markupsafe import Markup

from harness.report.svg import add, drawing, markup

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "down", "ring", "box")
"""Shapes of marks: each series has one of its own besides its colour (assets/style.css has the colours)."""

DASHES = ("", "7 3", "2 3", "8 3 2 3", "12 4", "4 2", "1 4", "9 2 2 2 2 2")


@dataclass(frozen=True)
class Key:
    """A line of a figure's key."""

    swatch: Markup
    text: str


@dataclass(frozen=True)
class Figure:
    """A picture with its caption; `head` and `rows` are its numbers, `narrow` is the same picture for a phone."""

    caption: str
    picture: Markup
    keys: Sequence[Key]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    narrow: Markup | None = None


def shape(parent: Element, number: int, x: float, y: float, size: float = 4.5, **attributes: str) -> Element:
    """The mark of series `number`, centred."""
    kind, style = SHAPES[number % len(SHAPES)], {"class_": f"mark s{number % 8}", **attributes}
    if kind in {"circle", "ring"}:
        style["class_"] += " open" if kind == "ring" else ""
        return add(parent, "circle", cx=x, cy=y, r=size, **style)
    if kind in {"square", "box"}:
        style["class_"] += " open" if kind == "box" else ""
        return add(parent, "rect", x=x - size, y=y - size, width=2 * size, height=2 * size, **style)
    s = size * 1.25
    paths = {
        "triangle": f"M{x:.1f} {y - s:.1f}L{x + s:.1f} {y + s * 0.8:.1f}L{x - s:.1f} {y + s * 0.8:.1f}Z",
        "down": f"M{x:.1f} {y + s:.1f}L{x + s:.1f} {y - s * 0.8:.1f}L{x - s:.1f} {y - s * 0.8:.1f}Z",
        "diamond": f"M{x:.1f} {y - s:.1f}L{x + s:.1f} {y:.1f}L{x:.1f} {y + s:.1f}L{x - s:.1f} {y:.1f}Z",
        "cross": f"M{x - s:.1f} {y - s:.1f}L{x + s:.1f} {y + s:.1f}M{x + s:.1f} {y - s:.1f}L{x - s:.1f} {y + s:.1f}",
    }
    if kind == "cross":
        style["class_"] += " open"
    return add(parent, "path", d=paths[kind], **style)


def swatch(width: float, height: float) -> Element:
    """An empty small picture beside words that say what it is."""
    drawn = drawing(width, height, "")
    del drawn.attrib["role"], drawn.attrib["aria-label"]
    drawn.set("aria-hidden", "true")
    return drawn


def line_key(number: int, text: str) -> Key:
    """The key of a line: its colour, its dashes and the shape of its marks."""
    drawn = swatch(34, 14)
    add(drawn, "line", x1=1, x2=33, y1=7, y2=7, class_=f"line s{number % 8}", stroke_dasharray=DASHES[number % 8])
    shape(drawn, number, 17, 7)
    return Key(markup(drawn), text)


def mark_key(number: int, text: str) -> Key:
    """The key of a mark that stands alone."""
    drawn = swatch(16, 14)
    shape(drawn, number, 8, 7)
    return Key(markup(drawn), text)
