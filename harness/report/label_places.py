"""Where names of marks go in a picture, so that none covers a mark or another name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

_LETTER, _ABOVE, _BELOW = 7.0, 10.0, 3.0
"""Width of a letter at the font size of figures, and how far letters reach above and below their line."""

Anchor = Literal["start", "middle", "end"]

_AROUND: Sequence[tuple[float, float, Anchor]] = (
    (-9, 4, "end"),
    (9, 4, "start"),
    (0, -9, "middle"),
    (0, 18, "middle"),
    (-6, -8, "end"),
    (6, -8, "start"),
    (6, 17, "start"),
    (-6, 17, "end"),
)
"""Where a text begins or ends as seen from its mark: left, right, above, below, then aslant."""


@dataclass(frozen=True)
class Box:
    """A rectangle in user units."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether the two share any area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether it lies inside another."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Label:
    """A text's place: the point it is anchored at, and the room it takes."""

    x: float
    y: float
    anchor: Anchor
    box: Box


def mark_box(x: float, y: float, size: float = 5.5) -> Box:
    """The room of a mark centred at (x, y)."""
    return Box(x - size, y - size, x + size, y + size)


def label_place(text: str, x: float, y: float, marks: Sequence[Box], lines: Sequence[Box], room: Box) -> Label | None:
    """A place for a text beside the mark at (x, y), inside `room`, that covers none of `marks` and, if there is such a
    place, none of `lines`; None where there is none."""
    free = [
        each
        for each in _places(_LETTER * len(text), x, y)
        if each.box.within(room) and not any(each.box.overlaps(box) for box in marks)
    ]
    clear = [each for each in free if not any(each.box.overlaps(box) for box in lines)]
    return next(iter(clear or free), None)


def _places(width: float, x: float, y: float) -> Iterator[Label]:
    for dx, dy, anchor in _AROUND:
        left = x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = Box(left, y + dy - _ABOVE, left + width, y + dy + _BELOW)
        yield Label(x + dx, y + dy, anchor, box)
