"""Steps of an episode as small images side by side, each framed by whether its answer was right: many at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from harness.report.figure import Figure
from harness.report.shown_episodes import ShownEpisodes
from harness.report.step_words import sentence, short_answer, star, table
from harness.report.svg import add, drawing, flowing, tooltip
from harness.report.timeline_figure import framed_image

_IMAGE, _CELL, _LINE = 36, 44, 56


def image_grid(shown: ShownEpisodes, row: int, steps: Sequence[int], caption: str, listed: bool = True) -> Figure:
    """Steps of episode `row` in order; below each image its class, or what was answered for it, with '*' at a shot that
    the protocol reports."""
    drawn = [_cell(shown, row, t) for t in steps]
    head, rows = table(shown, row, steps) if listed else ([], [])
    return Figure(caption, flowing(drawn, caption), [], head, rows)


def _cell(shown: ShownEpisodes, row: int, t: int) -> Element:
    words, style = short_answer(shown, row, t)
    drawn = drawing(_CELL, _LINE, "")
    tooltip(drawn, sentence(shown, row, t))
    x, y = (_CELL - _IMAGE) / 2, 4
    framed_image(drawn, shown, row, t, x, y, _IMAGE, style)
    below = (words.partition(" ·")[0] or str(shown.plan.target[row, t])) + star(shown, row, t)
    add(drawn, "text", below, x=_CELL / 2, y=y + _IMAGE + 13, class_=f"answer {style}", text_anchor="middle")
    return drawn
