"""Steps of an episode as small images side by side, each framed by whether its answer was right: many at a glance."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.figure import Figure
from harness.report.shown_episodes import ShownEpisodes
from harness.report.step_words import sentence, short_answer, star, table
from harness.report.svg import add, drawing, markup, tooltip
from harness.report.timeline_figure import framed_image

_IMAGE, _CELL, _LINE = 36, 44, 56


def image_grid(
    shown: ShownEpisodes, row: int, steps: Sequence[int], caption: str, columns: int = 18, listed: bool = True
) -> Figure:
    """Steps of episode `row` in lines of `columns`; below each image its class, or what was answered for it, with '*'
    at a shot that the protocol reports."""
    lines = -(-len(steps) // columns)
    drawn = drawing(_CELL * min(columns, len(steps)) + 8, _LINE * lines + 4, caption)
    drawn.set("class", "long")
    for number, t in enumerate(steps):
        x, y = 6 + _CELL * (number % columns), 4 + _LINE * (number // columns)
        words, style = short_answer(shown, row, t)
        group = add(drawn, "g", class_="step")
        tooltip(group, sentence(shown, row, t))
        framed_image(group, shown, row, t, x, y, _IMAGE, style)
        below = (words.partition(" ·")[0] or str(shown.plan.target[row, t])) + star(shown, row, t)
        add(group, "text", below, x=x + _IMAGE / 2, y=y + _IMAGE + 13, class_=f"answer {style}", text_anchor="middle")
    head, rows = table(shown, row, steps) if listed else ([], [])
    return Figure(caption, markup(drawn), [], head, rows)
