"""A single image with what was answered for it, as supervised learning is shown."""

from __future__ import annotations

import numpy as np

from harness.report.figure import Figure
from harness.report.shown_episodes import ShownEpisodes
from harness.report.step_words import confidence, short_answer, softmax
from harness.report.svg import Scale, add, drawing, markup, tooltip
from harness.report.timeline_figure import framed_image

_SMALL, _LARGE, _EDGE = 96, 168, 4
_LIKELIEST, _LINE, _NAMES, _BARS, _SHARES, _LETTERS = 5, 30, 176, 200, 64, 24
"""Classes that are listed beside an image, the height of a line, and the widths of names, bars and shares; letters of a
name."""


def answer_in_words(shown: ShownEpisodes, row: int) -> str:
    """Its class and what it was taken for, as 'bear, taken for boy with 97 %', or 'bear, with 12 %' if it is right."""
    logits, target = shown.logits_at(row, 0), int(shown.plan.target[row, 0])
    name = shown.class_name(row, target)
    if logits is None:
        return name
    number, share = confidence(logits)
    said = f"with {100 * share:.0f} %" if np.isfinite(share) else ""
    if number == target:
        return ", ".join(filter(None, [name, said]))
    return f"{name}, taken for {shown.class_name(row, number)} {said}".rstrip()


def single_image(shown: ShownEpisodes, row: int) -> Figure:
    """The image alone, framed by whether it was answered right."""
    words = f"Image {shown.plan.episode[row]}: {answer_in_words(shown, row)}"
    drawn = drawing(_SMALL + 2 * _EDGE, _SMALL + 2 * _EDGE, words)
    drawn.set("class", "long")
    tooltip(drawn, words)
    framed_image(drawn, shown, row, 0, _EDGE, _EDGE, _SMALL, short_answer(shown, row, 0)[1])
    return Figure(words, markup(drawn), [], [], [])


def answered_image(shown: ShownEpisodes, row: int) -> Figure:
    """The image, and beside it the classes that the method held most likely, with the image's own if it is not one of
    them."""
    logits, target = shown.logits_at(row, 0), int(shown.plan.target[row, 0])
    if logits is None:
        return single_image(shown, row)
    shares = softmax(logits)
    numbers = np.argsort(-np.nan_to_num(shares), kind="stable")[:_LIKELIEST].tolist()
    numbers += [target] if target not in numbers else []
    height = max(_LARGE, _LINE * len(numbers)) + 2 * _EDGE
    left = _LARGE + 2 * _EDGE + _NAMES
    drawn = drawing(left + _BARS + _SHARES, height, f"Image {shown.plan.episode[row]}: {answer_in_words(shown, row)}")
    drawn.set("class", "long")
    framed_image(drawn, shown, row, 0, _EDGE, _EDGE, _LARGE, short_answer(shown, row, 0)[1])
    across = Scale(0, 1, left, left + _BARS)
    rows = []
    for line, number in enumerate(numbers):
        share, middle, own = float(shares[number]), _EDGE + _LINE * (line + 0.5), number == target
        name, said = shown.class_name(row, number), f"{100 * share:.1f} %" if np.isfinite(share) else "–"
        shown_name = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
        style = {"class_": "name answer right"} if own else {"class_": "name"}
        group = add(drawn, "g", class_="row")
        tooltip(group, f"{name}: {said}" + (", its class" if own else ""))
        add(group, "text", f"{'✓ ' if own else ''}{shown_name}", x=left - 10, y=middle + 4, text_anchor="end", **style)
        width = max(1.0, across(share) - left) if np.isfinite(share) else 0
        add(group, "rect", x=left, y=middle - 9, width=width, height=18, class_=f"column s{2 if own else 0}")
        add(group, "text", said, x=left + width + 8, y=middle + 4, class_="value")
        rows.append([str(number), name + (", its class" if own else ""), said])
    return Figure("The image, and how likely its classes are to the method (the softmax of its logits)", markup(drawn),
                  [], ["class", "name", "confidence"], rows)  # fmt: skip
