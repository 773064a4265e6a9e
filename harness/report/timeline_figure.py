"""One episode as a picture: its images in order, when each label arrives, and what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from markupsafe import Markup

from harness.episodes.plan import NULL, SUPPORT
from harness.report.figure import Figure, Key, swatch
from harness.report.pixels import data_uri
from harness.report.shown_episodes import ShownEpisodes
from harness.report.step_words import ROLES, sentence, short_answer, star, table
from harness.report.svg import add, drawing, markup, tooltip

_COLUMNS, _NARROW, _CELL, _IMAGE, _EDGE = 10, 4, 86, 56, 18
_CHIP, _LINE, _GAP = 18, 15, 18
_LANE, _MOST_LANES, _LETTERS = 6, 8, 10


@dataclass(frozen=True)
class _Grid:
    """Where the steps of a timeline are drawn: lines of `columns` cells, `height` units each, with room for `lanes`
    arrows beside each other above the images."""

    place: dict[int, int]
    columns: int
    lanes: int
    answers: bool

    @property
    def top(self) -> float:
        """From the top of a line to the boxes of its labels."""
        return _LANE * self.lanes + 6

    @property
    def height(self) -> float:
        return self.top + _CHIP + _IMAGE + _LINE * (2 + self.answers) + _GAP

    @property
    def width(self) -> float:
        return 2 * _EDGE + _CELL * self.columns

    @property
    def lines(self) -> int:
        return -(-len(self.place) // self.columns)

    def x(self, t: int) -> float:
        return _EDGE + _CELL * (self.place[t] % self.columns)

    def y(self, t: int) -> float:
        return self.line(t) * self.height + self.top

    def line(self, t: int) -> int:
        return self.place[t] // self.columns


def timeline_figure(shown: ShownEpisodes, row: int, steps: Sequence[int], caption: str) -> Figure:
    """The steps of episode `row` before its queries, in lines of ten, or of four on a phone.

    An arrow leads from each image to the step before which its label is revealed, where the label stands in a box; in
    a support set the box stands at the image itself.
    """
    plan = shown.plan
    pairs = plan.phase[steps[0]] == SUPPORT
    wide, narrow = (
        _Grid(
            {t: number for number, t in enumerate(steps)},
            min(columns, len(steps)),
            0 if pairs else _lanes(plan.feedback_step[list(steps)], np.asarray(steps)),
            shown.logits is not None and not pairs,
        )
        for columns in (_COLUMNS, _NARROW)
    )
    drawn = _picture(shown, row, caption, wide, None)
    drawn.set("class", "long")
    small = None if wide.columns == narrow.columns else markup(_picture(shown, row, caption, narrow, wide))
    what = "mask (0: of the target, 1: empty)" if shown.protocol.masks else "label"
    words = f"{what}, given with its image" if pairs else f"{what}, revealed before the step that it stands above"
    keys = [Key(_chip_key(int(plan.target[row, steps[0]])), words)]
    if wide.answers:
        keys.append(Key(_frame_key("right"), "answered right (class and confidence: the softmax of its logits)"))
        keys.append(Key(_frame_key("wrong"), "answered wrong"))
    return Figure(caption, markup(drawn), keys, *table(shown, row, steps), small)


def _picture(shown: ShownEpisodes, row: int, caption: str, grid: _Grid, drawn_in: _Grid | None) -> Element:
    """The steps in a grid; images are those of the picture that they are already drawn in, if there is one."""
    plan = shown.plan
    drawn = drawing(grid.width, grid.lines * grid.height - _GAP + 4, caption)
    for t in grid.place:
        source = int(plan.feedback_step[t])
        if source in grid.place and plan.phase[t] != SUPPORT:
            _arrow(drawn, grid, source, t, int(plan.target[row, source]))
    for t in grid.place:
        _cell(drawn, grid, shown, row, t, drawn_in)
    return drawn


def framed_image(
    parent: Element, shown: ShownEpisodes, row: int, t: int, x: float, y: float, size: float, style: str = ""
) -> None:
    """The image of step t in a frame that says whether its answer was right; without the data a box of its class."""
    _image(parent, shown, row, t, x, y, size)
    _frame(parent, x, y, size, style)


def _image(parent: Element, shown: ShownEpisodes, row: int, t: int, x: float, y: float, size: float) -> Element:
    if shown.pixels is not None:
        return add(parent, "image", x=x, y=y, width=size, height=size, href=data_uri(shown.pixels[t, row]))
    target = int(shown.plan.target[row, t])
    box = add(parent, "rect", x=x, y=y, width=size, height=size, class_=f"chip s{target % 8}")
    add(parent, "text", str(target), x=x + size / 2, y=y + size / 2 + 4, class_="in-chip", text_anchor="middle")
    return box


def _frame(parent: Element, x: float, y: float, size: float, style: str) -> None:
    add(parent, "rect", x=x, y=y, width=size, height=size, class_=f"frame {style}".rstrip())


def _lanes(feedback_step: np.ndarray, steps: np.ndarray) -> int:
    """Arrows that run beside each other at most: as many as a label is late."""
    late = (steps - feedback_step)[feedback_step != NULL]
    return min(_MOST_LANES, int(late.max())) if len(late) else 0


def _arrow(parent: Element, grid: _Grid, source: int, end: int, target: int) -> None:
    """From the image of step `source` up to a lane, along it (over the ends of lines), and down to the box at `end`."""
    lane = 4 + _LANE * (grid.place[source] % max(1, grid.lanes))
    first, last = grid.line(source), grid.line(end)
    begin, goal, tip = grid.x(source) + _IMAGE - 4, grid.x(end) + 14, last * grid.height + grid.top
    path = f"M{begin} {first * grid.height + grid.top + _CHIP}V{first * grid.height + lane}"
    for line in range(first + 1, last + 1):
        path += f"H{grid.width}M0 {line * grid.height + lane}"
    group = add(parent, "g", class_=f"reveals s{target % 8}")
    add(group, "path", d=f"{path}H{goal}V{tip - 5}", class_="path")
    add(group, "path", d=f"M{goal - 4} {tip - 6}L{goal + 4} {tip - 6}L{goal} {tip}Z", class_="tip")


def _cell(parent: Element, grid: _Grid, shown: ShownEpisodes, row: int, t: int, drawn_in: _Grid | None) -> None:
    plan, target = shown.plan, int(shown.plan.target[row, t])
    words, style = short_answer(shown, row, t)
    group = add(parent, "g", class_="step")
    tooltip(group, sentence(shown, row, t))
    x, y = grid.x(t), grid.y(t)
    source = int(plan.feedback_step[t])
    if source != NULL:
        _chip(group, x, y, int(plan.target[row, source]))
    if drawn_in is not None and shown.pixels is not None:  # its bytes stand on the page once
        add(group, "use", href=f"#image-{t}", x=x - drawn_in.x(t), y=y - drawn_in.y(t))
    else:
        image = _image(group, shown, row, t, x, y + _CHIP, _IMAGE)
        image.attrib |= {"id": f"image-{t}"} if shown.pixels is not None else {}
    _frame(group, x, y + _CHIP, _IMAGE, style)
    below = y + _CHIP + _IMAGE + _LINE - 2
    add(group, "text", str(t), x=x + 30, y=y + 12, class_="tick")
    masks = shown.protocol.masks
    add(group, "text", ROLES[target] if masks else f"class {target}", x=x, y=below)
    add(group, "text", f"{plan.shot[row, t]}-shot{star(shown, row, t)}", x=x, y=below + _LINE, class_="tick")
    if grid.answers:
        size = " small" if len(words) > _LETTERS else ""
        add(group, "text", words, x=x, y=below + 2 * _LINE, class_=f"answer {style}{size}")


def _chip(parent: Element, x: float, y: float, target: int) -> None:
    add(parent, "rect", x=x + 2, y=y, width=24, height=15, class_=f"chip s{target % 8}")
    add(parent, "text", str(target), x=x + 14, y=y + 12, class_="in-chip", text_anchor="middle")


def _chip_key(target: int) -> Markup:
    drawn = swatch(28, 16)
    _chip(drawn, 0, 0, target)
    return markup(drawn)


def _frame_key(style: str) -> Markup:
    drawn = swatch(18, 18)
    add(drawn, "rect", x=2, y=2, width=14, height=14, class_=f"frame {style}")
    return markup(drawn)
