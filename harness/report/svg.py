"""SVG as a tree of elements: whatever text is put into it is escaped when it is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from harness.util.shown_text import in_line

FONT = 12
"""Size of the text in user units; figures are shown at their own size or smaller."""


def add(parent: Element, tag: str, text: str | None = None, **attributes: Any) -> Element:
    """A new last child of an element; 'class_' becomes 'class', 'text_anchor' 'text-anchor'; numbers are rounded."""
    found = SubElement(parent, tag, {_name(key): _value(value) for key, value in attributes.items()})
    if text is not None:
        found.text = in_line(text)
    return found


def drawing(width: float, height: float, label: str) -> Element:
    """An empty picture of this size with a name for those who cannot see it."""
    found = Element(
        "svg",
        {
            "viewBox": f"0 0 {_value(width)} {_value(height)}",
            "width": _value(width),
            "height": _value(height),
            "role": "img",
            "aria-label": in_line(label),
        },
    )
    return found


def flowing(drawn: Sequence[Element], label: str) -> Markup:
    """Small pictures in order, in lines as long as the page is wide, as one with a name for those who cannot see it."""
    box = Element("div", {"class": "flow", "role": "img", "aria-label": in_line(label)})
    for each in drawn:
        del each.attrib["role"], each.attrib["aria-label"]
        each.set("aria-hidden", "true")
        box.append(each)
    return Markup(tostring(box, encoding="unicode"))


def markup(drawn: Element) -> Markup:
    """The picture as part of a page."""
    return Markup(tostring(drawn, encoding="unicode"))


def tooltip(parent: Element, text: str) -> None:
    """Words shown while the pointer is over an element."""
    add(parent, "title", text)


@dataclass(frozen=True)
class Scale:
    """A value's place: `low` is at `start`, `high` at `end`.

    A logarithmic scale has its zeros (a method without parameters) at `zero`, apart from its lowest power.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False
    zero: float | None = None

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            if value <= 0:
                return self.start if self.zero is None else self.zero
            share = math.log10(value / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values between `low` and `high`, about six."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = max(1, round((last - first) / 6))
            return [10.0**power for power in range(first, last + 1, every)]
        step = _round_step((self.high - self.low) / 6)
        first = math.ceil(self.low / step - 1e-9)
        return [step * number for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def linear(values: Iterable[float], start: float, end: float, bounds: tuple[float, float] | None = None) -> Scale:
    """A scale that has room for all values, with round ends, within `bounds`."""
    found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(found), max(found)
    if high - low < 1e-6 * max(1.0, abs(low), abs(high)):  # closer than an axis can show
        low, high = low - 1, high + 1
    step = _round_step((high - low) / 6)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    if bounds:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Scale(low, high if high > low else low + 1, start, end)


def powers(values: Iterable[float], start: float, end: float) -> Scale:
    """A logarithmic scale with room for all values; zeros stand apart at its left."""
    found = [value for value in values if math.isfinite(value)]
    positive = [value for value in found if value > 0] or [1.0]
    low, high = 10.0 ** math.floor(math.log10(min(positive))), 10.0 ** math.ceil(math.log10(max(positive)))
    if low == high:
        high = low * 10
    zeros = len(positive) < len(found) or not found
    return Scale(low, high, start + (44 if zeros else 0), end, True, start + 8 if zeros else None)


def tick_text(value: float) -> str:
    """A tick's number: 0.5, 20, 10k, 3M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.6g}"


def bottom_axis(parent: Element, scale: Scale, top: float, bottom: float, label: str) -> None:
    """Grid lines, numbers below them, and what they are of."""
    if scale.zero is not None:
        _tick(parent, scale.zero, top, bottom, "0")
    for value in scale.ticks:
        _tick(parent, scale(value), top, bottom, tick_text(value))
    add(parent, "text", label, x=(scale.start + scale.end) / 2, y=bottom + 34, class_="label", text_anchor="middle")


def left_axis(parent: Element, scale: Scale, left: float, right: float, label: str) -> None:
    """Grid lines, numbers at their left, and what they are of, above."""
    for value in scale.ticks:
        y = scale(value)
        add(parent, "line", x1=left, x2=right, y1=y, y2=y, class_="grid")
        add(parent, "text", tick_text(value), x=left - 8, y=y + 4, class_="tick", text_anchor="end")
    add(parent, "text", label, x=left, y=min(scale.start, scale.end) - 10, class_="label", text_anchor="start")


def _tick(parent: Element, x: float, top: float, bottom: float, text: str) -> None:
    add(parent, "line", x1=x, x2=x, y1=top, y2=bottom, class_="grid")
    add(parent, "text", text, x=x, y=bottom + 16, class_="tick", text_anchor="middle")


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, ... times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= least * (1 - 1e-9))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, int | float) else in_line(str(value))
