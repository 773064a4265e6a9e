"""What is taken for what: class by class, and along a stream by what of the classes had been revealed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from harness.report.figure import Figure, Key, swatch
from harness.report.lines import Series, lines
from harness.report.shown_episodes import ShownEpisodes
from harness.report.step_words import named_class
from harness.report.svg import add, drawing, markup, tooltip

_CELL, _FINE, _SIDE, _NAMED = 30, 5, 640, 25
"""Units of a cell up to `_NAMED` classes, the smallest beyond, and of the whole picture then."""


_KNOWN = "wrong: another class, of which a label was revealed"


def confusion_figure(caption: str, what: str, counts: np.ndarray, names: Sequence[str]) -> Figure:
    """A matrix of counts [K, K], shown by answered, as shares of each row: the darker, the more often."""
    number = len(counts)
    cell = _CELL if number <= _NAMED else max(_FINE, _SIDE // number)
    left, top = (44, 46) if number <= _NAMED else (28, 34)
    side = cell * number
    drawn = drawing(left + side + 8, top + side + 8, caption)
    drawn.set("class", "long")
    add(drawn, "text", f"answered {what} →", x=left, y=14, class_="label")
    add(drawn, "text", f"← shown {what}", x=-top, y=14, class_="label", text_anchor="end", transform="rotate(-90)")
    add(drawn, "rect", x=left, y=top, width=side, height=side, class_="frame")
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    for i, j in np.argwhere(counts > 0).tolist():
        x, y = left + cell * j, top + cell * i
        group = add(drawn, "g")
        tooltip(group, f"{names[i]} taken for {names[j]}: {shares[i, j]:.1%} of its answers")
        style = "heat own" if i == j else "heat"
        add(group, "rect", x=x, y=y, width=cell, height=cell, class_=style, fill_opacity=0.08 + 0.8 * shares[i, j])
        if number <= _NAMED:
            text = f"{100 * shares[i, j]:.0f}"
            add(group, "text", text, x=x + cell / 2, y=y + cell / 2 + 4, class_="in-heat", text_anchor="middle")
    if number <= _NAMED:
        for place in range(number):
            add(
                drawn, "text", str(place), x=left + cell * (place + 0.5), y=top - 6, class_="tick", text_anchor="middle"
            )
            add(
                drawn,
                "text",
                str(place),
                x=left - 8,
                y=top + cell * (place + 0.5) + 4,
                class_="tick",
                text_anchor="end",
            )
    off = counts * (1 - np.eye(number))
    pairs = sorted(np.argwhere(off > 0).tolist(), key=lambda pair: -shares[tuple(pair)])[:50]
    rows = [[names[i], names[j], f"{100 * shares[i, j]:.1f}"] for i, j in pairs]
    keys = [
        Key(_heat_key("heat own"), f"answered right, % of the answers to that {what}"),
        Key(_heat_key("heat"), "taken for another, likewise"),
    ]
    return Figure(caption, markup(drawn), keys, [f"{what} shown", "taken for", "% of its answers"], rows)


def _heat_key(style: str) -> Markup:
    drawn = swatch(18, 14)
    add(drawn, "rect", x=0, y=0, width=18, height=14, class_=style, fill_opacity=0.88)
    return markup(drawn)


def counted(shown: ShownEpisodes) -> np.ndarray:
    """How often each class was taken for each over all answers, [K, K].

    Of continual learning classes are the places of subtasks in the stream, of supervised learning those of the data
    set, else the class numbers of the episodes.
    """
    plan, answers = shown.plan, _answers(shown)
    target = plan.target.T[plan.answer_mask]
    size = shown.logits.shape[-1] if shown.logits is not None else 0
    if shown.protocol.kind == "continual":
        first = plan.first_query
        place = np.argsort(plan.target[:, : first : first // plan.classes.shape[1]], axis=1)
        row = np.arange(target.shape[1])[None]
        target, answers = place[row, target][first:], place[row, answers][first:]
    counts = np.zeros((size, size))
    np.add.at(counts, (target.ravel(), answers.ravel()), 1)
    return counts


def outcomes_figure(shown: ShownEpisodes) -> Figure:
    """Along a stream, how answers come out: right, or wrong, by what labels had been revealed."""
    plan, answers, steps = shown.plan, _answers(shown), shown.plan.steps
    target = plan.target.T
    feedback = plan.feedback.T  # [T, B]
    ways = np.arange(plan.classes.shape[1])
    revealed = np.maximum.accumulate(feedback[:, :, None] == ways, axis=0)
    class_known = np.take_along_axis(revealed, target[:, :, None], 2)[:, :, 0]
    answer_known = np.take_along_axis(revealed, answers[:, :, None], 2)[:, :, 0]
    right = answers == target
    found = {
        "right": right,
        _KNOWN: ~right & class_known & answer_known,
        "wrong: a class of which no label was revealed": ~right & class_known & ~answer_known,
        "wrong: no label of its own class was revealed yet": ~right & ~class_known,
    }
    numbers = {"right": 2, _KNOWN: 1}
    series = [
        Series(name, [*range(steps)], [*(100 * share.mean(1)).tolist()], number=numbers.get(name, 3 + place))
        for place, (name, share) in enumerate(found.items())
    ]
    episodes = len(plan.episode)
    caption = f"How answers come out along the stream, over the first {episodes} test episodes"
    return lines(caption, "step", "answers, %", series, bounds=(0, 100))


def _answers(shown: ShownEpisodes) -> np.ndarray:
    """The class number that each answer names, [A, B]."""
    assert shown.logits is not None
    return named_class(shown.logits)
