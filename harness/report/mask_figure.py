"""One episode of masks as a picture: each image, below it the truth, and what was segmented and masked out."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from markupsafe import Markup

from harness.episodes.plan import NULL
from harness.report.figure import Figure, Key, swatch
from harness.report.pixels import DISTRACTOR, TARGET, data_uri, painted
from harness.report.shown_episodes import ShownEpisodes
from harness.report.step_words import ROLES, sentence, short_answer, star, table
from harness.report.svg import add, drawing, flowing, markup, tooltip

_CELL, _IMAGE, _LINE, _GAP = 132, 112, 15, 12
_HEAD = 3 * _LINE
"""Lines of words above each image: the step and its role, its shot, and the mask that was revealed before it."""

_STRIP = 96
"""Width of an image with its words where an episode is shown at a glance."""

_BLUE, _ORANGE = 0, 1


def mask_figure(shown: ShownEpisodes, row: int, steps: Sequence[int], caption: str) -> Figure:
    """The steps of episode `row` in order.

    Below each image stand the truth and, where a method answered, its prediction: blue is what is (called) the target's
    object, orange the distractor's object, in a prediction those of its pixels that are masked out, as in figure 5 of
    Babu et al. 2021.
    """
    keys = [
        Key(_colour_key(_BLUE), "the target's object, or what was called it"),
        Key(_colour_key(_ORANGE), "the distractor's object; in a prediction those of its pixels that are masked out"),
    ]
    drawn = [_cell(shown, row, t) for t in steps]
    return Figure(caption, flowing(drawn, caption), keys, *table(shown, row, steps))


def mask_strip(shown: ShownEpisodes, row: int, caption: str, size: float = 64) -> Figure:
    """The predictions of an episode (without any, the truth) in order."""
    cells = []
    for t in range(shown.plan.steps):
        words, style = short_answer(shown, row, t)
        drawn = drawing(_STRIP, size + 22, "")
        tooltip(drawn, sentence(shown, row, t))
        add(drawn, "image", x=2, y=0, width=size, height=size, href=data_uri(prediction(shown, row, t), 64))
        below = (words or ROLES[int(shown.plan.target[row, t])]) + star(shown, row, t)
        add(drawn, "text", below, x=2, y=size + 13, class_=f"answer small {style}".rstrip())
        cells.append(drawn)
    return Figure(caption, flowing(cells, caption), [], [], [])


def prediction(shown: ShownEpisodes, row: int, t: int) -> np.ndarray:
    """The image of step t with the prediction over it, or without one the truth: uint8 [3, H, W]."""
    assert shown.objects is not None
    assert shown.pixels is not None
    pixels, inside, distractor = shown.pixels[t, row], shown.objects[t, row], bool(shown.plan.target[row, t])
    logits = shown.logits_at(row, t)
    if logits is None:
        return painted(pixels, (inside, DISTRACTOR if distractor else TARGET))
    foreground = logits[0] > 0
    masked = inside & ~foreground if distractor else np.zeros_like(inside)
    return painted(pixels, (foreground, TARGET), (masked, DISTRACTOR))


def _cell(shown: ShownEpisodes, row: int, t: int) -> Element:
    assert shown.objects is not None
    assert shown.pixels is not None
    target, source = int(shown.plan.target[row, t]), int(shown.plan.feedback_step[t])
    words, style = short_answer(shown, row, t)
    truth = painted(shown.pixels[t, row], (shown.objects[t, row], DISTRACTOR if target else TARGET))
    pictures = [shown.pixels[t, row], truth] + ([prediction(shown, row, t)] if shown.logits is not None else [])
    drawn = drawing(_CELL, _HEAD + (_IMAGE + 4) * len(pictures) + _LINE + _GAP, "")
    tooltip(drawn, sentence(shown, row, t))
    revealed = "no mask yet"
    if source != NULL:
        revealed = f"mask of {source}: {('object', 'empty')[int(shown.plan.target[row, source])]}"
    add(drawn, "text", f"{t}: {ROLES[target]}", x=0, y=_LINE - 3)
    add(drawn, "text", f"{shown.plan.shot[row, t]}-shot{star(shown, row, t)}", x=0, y=2 * _LINE - 3, class_="tick")
    add(drawn, "text", revealed, x=0, y=3 * _LINE - 4, class_="tick")
    for place, pixels in enumerate(pictures):
        top = _HEAD + (_IMAGE + 4) * place
        add(drawn, "image", x=0, y=top, width=_IMAGE, height=_IMAGE, href=data_uri(pixels))
    below = _HEAD + (_IMAGE + 4) * len(pictures) + _LINE - 5
    add(drawn, "text", words, x=0, y=below, class_=f"answer {style}")
    return drawn


def _colour_key(series: int) -> Markup:
    drawn = swatch(18, 14)
    add(drawn, "rect", x=1, y=1, width=16, height=12, class_=f"column {ROLES[series]}")
    return markup(drawn)
