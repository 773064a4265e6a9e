"""The page of a protocol: what a learner is given and when, on which data, and what lint finds in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from harness.data.dataset import SPLITS
from harness.episodes.plan import SUPPORT
from harness.lint import Finding, lint
from harness.protocol import describe
from harness.report.class_samples import class_samples
from harness.report.commands import lint_command
from harness.report.figure import Figure
from harness.report.image_grid import image_grid
from harness.report.page import render
from harness.report.shown_episodes import ShownEpisodes, shown_episodes
from harness.report.sources import Places, Subject
from harness.report.timeline_figure import timeline_figure

_STEPS, _QUERIES = 20, 18
"""Steps and queries of the diagram: more of them look the same."""


@dataclasses.dataclass(frozen=True)
class Split:
    """A split in numbers: its classes, its images, and the fewest and most of a class."""

    name: str
    classes: int
    images: str
    per_class: str


def protocol_page(on: Subject, places: Places, board: str | None = None, *, thorough: bool = True) -> str:
    """HTML of a protocol; `board` is the address of its board's page. Unless `thorough`, images are not compared."""
    loaded, protocol = on.loaded, on.protocol
    return render(
        "protocol.html",
        up="../",
        name=loaded.name,
        protocol=protocol,
        board=board,
        heading=describe.heading(loaded.name, protocol).partition("\n")[2],
        legend=protocol.words.legend,
        diagrams=[*_diagrams(on)],
        splits=[*_splits(on)],
        missing=on.missing,
        samples=[class_samples(on.dataset, split) for split in on.dataset.tables] if on.dataset else [],
        findings=findings(on, thorough),
        thorough=thorough and on.dataset is not None,
        lint=lint_command(on, places),
        text=loaded.path.read_text(encoding="utf-8"),
    )


def findings(on: Subject, thorough: bool) -> Sequence[Finding]:
    """What `harness lint` finds, without looking at images unless `thorough`; what that leaves out is not a finding."""
    found = lint(dataclasses.replace(on.loaded, protocol=on.protocol), on.dataset if thorough else None)
    return found if thorough else [each for each in found if each.subject != "data"]


def _diagrams(on: Subject) -> Iterator[Figure]:
    """The course of the first test episode, with class numbers in place of images."""
    if on.protocol.supervised or (on.dataset is None and not on.protocol.card.images_per_class):
        return
    shown = shown_episodes(on.protocol, on.dataset, "test", 0, [0])
    shown = dataclasses.replace(shown, pixels=None, objects=None)
    first, steps = shown.plan.first_query, shown.plan.steps
    yield timeline_figure(shown, 0, range(min(first, _STEPS)), _caption(shown, first))
    if first < steps:
        queries = range(first, min(steps, first + _QUERIES))
        more = f"the first {len(queries)} of {steps - first}, " if len(queries) < steps - first else ""
        yield image_grid(shown, 0, queries, f"Queries, {more}each asked from the same state", listed=False)


def _caption(shown: ShownEpisodes, first: int) -> str:
    more = f" (the first {_STEPS} of {first} steps)" if first > _STEPS else ""
    if shown.plan.phase[0] == SUPPORT:
        return f"Support set: each image comes with its label{more}"
    what = "mask" if shown.protocol.masks else "label"
    return f"Stream: boxes are images, by their class number; arrows lead to where each {what} is revealed{more}"


def _splits(on: Subject) -> Iterator[Split]:
    if on.dataset is None:
        for name, classes in on.protocol.card.classes.items():
            yield Split(name, classes, "–", f"at least {on.protocol.card.images_per_class[name]}")
        return
    for name in SPLITS:
        if name in on.dataset.tables:
            sizes = on.dataset.tables[name].sizes
            low, high = int(sizes.min()), int(sizes.max())
            yield Split(name, len(sizes), f"{int(sizes.sum()):,}", str(low) if low == high else f"{low} to {high}")
