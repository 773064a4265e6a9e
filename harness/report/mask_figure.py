"""One episode of masks as a picture: each image, the truth over it, and what was segmented and masked out."""

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
from harness.report.svg import add, drawing, markup, tooltip

_COLUMNS, _CELL, _IMAGE, _EDGE, _LINE, _GAP = 6, 132, 112, 92, 15, 20
_HEAD = 3 * _LINE
"""Lines of words above each column: the step and its role, its shot, and the mask that was revealed before it."""

_STRIP = 9
_BLUE, _ORANGE = 0, 1


def mask_figure(shown: ShownEpisodes, row: int, steps: Sequence[int], caption: str) -> Figure:
    """The steps of episode `row` in lines of six.

    Below each image stand the truth and, where a method answered, its prediction: blue is what is (called) the target's
    object, orange the distractor's object, in a prediction those of its pixels that are masked out, as in figure 5 of
    Babu et al. 2021.
    """
    assert shown.objects is not None
    assert shown.pixels is not None
    layers = ["image", "truth"] + (["prediction"] if shown.logits is not None else [])
    columns, step = min(_COLUMNS, len(steps)), _IMAGE + 4
    height = _HEAD + step * len(layers) + _LINE + _GAP
    drawn = drawing(_EDGE + _CELL * columns, height * -(-len(steps) // columns) - _GAP + 4, caption)
    drawn.set("class", "long")
    for number, t in enumerate(steps):
        x, y = _EDGE + _CELL * (number % columns), height * (number // columns)
        if number % columns == 0:
            for place, word in enumerate(layers):
                add(drawn, "text", word, x=0, y=y + _HEAD + step * place + _IMAGE / 2, class_="label")
        _cell(drawn, shown, row, t, x, y, step)
    keys = [
        Key(_colour_key(_BLUE), "the target's object, or what was called it"),
        Key(_colour_key(_ORANGE), "the distractor's object; in a prediction those of its pixels that are masked out"),
    ]
    return Figure(caption, markup(drawn), keys, *table(shown, row, steps))


def mask_strip(shown: ShownEpisodes, row: int, caption: str, size: float = 64) -> Figure:
    """The predictions of an episode (without any, the truth) side by side, in lines of nine."""
    steps, cell = range(shown.plan.steps), size + 32
    lines = -(-len(steps) // _STRIP)
    drawn = drawing(cell * min(_STRIP, len(steps)) + 4, (size + 22) * lines, caption)
    drawn.set("class", "long")
    for t in steps:
        x, y = 2 + cell * (t % _STRIP), (size + 22) * (t // _STRIP)
        words, style = short_answer(shown, row, t)
        group = add(drawn, "g", class_="step")
        tooltip(group, sentence(shown, row, t))
        add(group, "image", x=x, y=y, width=size, height=size, href=data_uri(prediction(shown, row, t), 64))
        below = (words or ROLES[int(shown.plan.target[row, t])]) + star(shown, row, t)
        add(group, "text", below, x=x, y=y + size + 13, class_=f"answer small {style}".rstrip())
    return Figure(caption, markup(drawn), [], [], [])


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


def _cell(parent: Element, shown: ShownEpisodes, row: int, t: int, x: float, y: float, step: float) -> None:
    assert shown.objects is not None
    assert shown.pixels is not None
    target, source = int(shown.plan.target[row, t]), int(shown.plan.feedback_step[t])
    words, style = short_answer(shown, row, t)
    group = add(parent, "g", class_="step")
    tooltip(group, sentence(shown, row, t))
    revealed = "no mask yet"
    if source != NULL:
        revealed = f"mask of {source}: {('object', 'empty')[int(shown.plan.target[row, source])]}"
    add(group, "text", f"{t}: {ROLES[target]}", x=x, y=y + _LINE - 3)
    add(group, "text", f"{shown.plan.shot[row, t]}-shot{star(shown, row, t)}", x=x, y=y + 2 * _LINE - 3, class_="tick")
    add(group, "text", revealed, x=x, y=y + 3 * _LINE - 4, class_="tick")
    truth = painted(shown.pixels[t, row], (shown.objects[t, row], DISTRACTOR if target else TARGET))
    pictures = [shown.pixels[t, row], truth] + ([prediction(shown, row, t)] if shown.logits is not None else [])
    for place, pixels in enumerate(pictures):
        top = y + _HEAD + step * place
        add(group, "image", x=x, y=top, width=_IMAGE, height=_IMAGE, href=data_uri(pixels))
    below = y + _HEAD + step * len(pictures) + _LINE - 5
    add(group, "text", words, x=x, y=below, class_=f"answer {style}")


def _colour_key(series: int) -> Markup:
    drawn = swatch(18, 14)
    add(drawn, "rect", x=1, y=1, width=16, height=12, class_=f"column {ROLES[series]}")
    return markup(drawn)
