"""The page of one episode: its images in order, when each label arrives, and what a method answered."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.episodes.plan import SUPPORT
from harness.episodes.timeline import class_list
from harness.evaluation.score import each, score
from harness.protocol import describe
from harness.protocol.models import AnyProtocol
from harness.report.confusion import confusion_figure, counted
from harness.report.curves import WORDS
from harness.report.figure import Figure
from harness.report.image_grid import image_grid
from harness.report.lines import Series, lines
from harness.report.mask_figure import mask_figure
from harness.report.page import render
from harness.report.shown_episodes import ShownEpisodes
from harness.report.single_image import answered_image
from harness.report.timeline_figure import timeline_figure

STEPS, QUERIES = 120, 108
"""Steps before the queries, and queries, that are shown one by one."""


def episode_page(shown: ShownEpisodes, name: str, *, row: int = 0, note: str = "", up: str = "", back: str = "") -> str:
    """HTML of episode `row` on the protocol `name`: `note` says what is missing, `back` leads to its run's page."""
    protocol, number = shown.protocol, int(shown.plan.episode[row])
    return render(
        "episode.html",
        up=up,
        back=back,
        alone=not up,
        title=f"Episode {number} of {name}",
        name=name,
        facts=[*_facts(shown, row, number)],
        note=note,
        heading=describe.heading(name, protocol).partition("\n")[2],
        legend=protocol.words.legend,
        many=protocol.supervised,
        classes=class_list(protocol, shown.plan, shown.table, row),
        figures=[*_figures(shown, row)],
    )


def _facts(shown: ShownEpisodes, row: int, number: int) -> Iterator[tuple[str, str]]:
    yield from (("episode", str(number)), ("split", shown.split), ("seed of the episodes", str(shown.seed)))
    if shown.method:
        yield "method", shown.method
    if shown.earned is not None:
        plan = shown.plan.part(slice(row, row + 1))
        values = each(shown.protocol, score(shown.protocol, shown.earned[:, row : row + 1], plan))
        named = {f"{name} of this episode": float(values[name][0]) for name in _metrics(shown.protocol)}
        yield from ((name, f"{100 * value:.1f} %") for name, value in named.items() if np.isfinite(value))


def _metrics(protocol: AnyProtocol) -> list[str]:
    """The metric that the board is ranked by, and of masks its two parts."""
    return list(dict.fromkeys([protocol.ranking, *(["iou", "masking"] if protocol.ranking == "joint" else [])]))


def _figures(shown: ShownEpisodes, row: int) -> Iterator[Figure]:
    plan = shown.plan
    first = plan.first_query
    if shown.protocol.supervised:
        yield answered_image(shown, row)
        return
    before = [*range(min(first, STEPS))]
    more = f" (the first {STEPS} of {first} steps)" if first > STEPS else ""
    if shown.protocol.masks and shown.objects is not None:
        what = "Images, and their truth" if shown.logits is None else "Images, their truth, and the prediction"
        yield mask_figure(shown, row, before, f"{what}{more}")
    elif before:
        pairs = plan.phase[0] == SUPPORT
        what = (
            "Support set: each image with its label"
            if pairs
            else "Stream: images in order, and when each label arrives"
        )
        yield timeline_figure(shown, row, before, f"{what}{more}")
    if first < plan.steps:
        queries = [*range(first, min(plan.steps, first + QUERIES))]
        count = plan.steps - first
        shown_of = f"the first {len(queries)} of {count}" if count > len(queries) else f"all {count}"
        answers = "; below each image the answer" if shown.logits is not None else "; below each image its class"
        yield image_grid(shown, row, queries, f"Queries, {shown_of}{answers}")
        if shown.logits is not None:
            yield from _of_queries(shown, row)


def _of_queries(shown: ShownEpisodes, row: int) -> Iterator[Figure]:
    plan = shown.plan
    counts = counted(shown.part(slice(row, row + 1)))
    names = [shown.class_name(row, number) for number in range(plan.classes.shape[1])]
    if shown.protocol.kind != "continual":
        yield confusion_figure("Queries: what was taken for what", "class", counts, names)
        return
    ways = len(names)
    order = [int(plan.target[row, t]) for t in range(0, plan.first_query, plan.first_query // ways)]
    share = 100 * np.diag(counts) / counts.sum(1).clip(min=1)
    series = [Series(shown.method or "answers", [*range(ways)], [*share.tolist()], number=0)]
    if ways > 1:
        x_label, y_label = WORDS["by_subtask"]
        yield lines("Accuracy by subtask after the whole stream, in this episode", x_label, y_label, series,
                    bounds=(0, 100))  # fmt: skip
    named = [f"subtask {place} ({names[number]})" for place, number in enumerate(order)]
    yield confusion_figure("Queries: what was taken for what", "subtask", counts, named)
