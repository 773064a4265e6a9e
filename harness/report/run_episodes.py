"""Test episodes of a finished run, played again: the worst and the best with images, and what is taken for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.evaluation.evaluate import EVALUATION_SEED
from harness.evaluation.score import each
from harness.protocol.models import AnyProtocol
from harness.report.commands import show_command
from harness.report.confusion import confusion_figure, counted, outcomes_figure
from harness.report.figure import Figure
from harness.report.image_grid import image_grid
from harness.report.mask_figure import mask_strip
from harness.report.page import episode_file
from harness.report.run_log import RunFolder
from harness.report.shown_episodes import ShownEpisodes
from harness.report.sources import Places, Played, Subject, Weighted, played
from harness.util.tensor_files import WEIGHTS

EXTREMES = 4
"""Worst and best episodes that are shown."""

_SHOWN = 75
"""Steps of an episode that are shown at most."""

_FEWEST, _MOST, _SECONDS = 20, 100, 15.0
"""Episodes that are played for what is taken for what: as many as take so long, by how long scoring took."""

_IMAGES = 1000
"""The same of supervised learning, where an episode is one image."""


@dataclass(frozen=True)
class Extreme:
    """A test episode: its number, what it earned in per cent, its images in order, the address of its page from the
    index's folder, and the command that writes it."""

    number: int
    score: float
    picture: Figure | None
    page: str
    command: str


@dataclass(frozen=True)
class RunEpisodes:
    """What the page of a run shows of its episodes: groups of extremes, figures of confusions, and what is missing."""

    extremes: Sequence[tuple[str, Sequence[Extreme]]] = ()
    confusions: Sequence[Figure] = ()
    note: str = ""


NO_EPISODES = RunEpisodes()
"""Of a run that is not finished, or whose protocol is not at hand."""


def episode_scores(run: RunFolder, protocol: AnyProtocol) -> np.ndarray | None:
    """What each test episode earned by the metric that the board is ranked by, in per cent, [E]; None if not known."""
    if run.scores is None:
        return None
    try:
        values = each(protocol, run.scores).get(protocol.ranking)
    except (KeyError, IndexError, ValueError):
        return None
    return None if values is None or not len(values) or np.isnan(values).any() else 100 * values


def extreme_numbers(values: np.ndarray | None) -> list[int]:
    """The numbers of the worst episodes, worst first, and then of the best, best first, of scores [E]."""
    if values is None or len(values) < 2 * EXTREMES:
        return []
    order = np.argsort(values, kind="stable")
    return [*order[:EXTREMES].tolist(), *order[::-1][:EXTREMES].tolist()]


def played_extremes(run: RunFolder, on: Subject, numbers: Sequence[int], places: Places) -> Played:
    """These test episodes of a finished run, with what its method answers."""
    return played(on, "test", EVALUATION_SEED, numbers, _weighted(run), places)


def run_episodes(run: RunFolder, on: Subject | None, places: Places) -> tuple[RunEpisodes, Played | None]:
    """The extremes and the confusions of a run, and its extreme episodes as they were played; None for none."""
    values = None if on is None else episode_scores(run, on.protocol)
    numbers = extreme_numbers(values)
    if run.record is None or on is None or values is None or not numbers:
        return NO_EPISODES, None
    found = played_extremes(run, on, numbers, places)
    confusions = [*_confusions(run, on, places)] if found.shown.logits is not None else []

    def extreme(row: int, number: int) -> Extreme:
        picture = None if found.shown.pixels is None else strip(found.shown, row)
        page, command = episode_file(run.protocol, run.name, number), show_command(run, on, number, places)
        return Extreme(number, float(values[number]), picture, page, command)

    every = [extreme(row, number) for row, number in enumerate(numbers)]
    groups = [("Worst", every[:EXTREMES]), ("Best", every[EXTREMES:])]
    return RunEpisodes(groups, confusions, found.note), found


def strip(shown: ShownEpisodes, row: int) -> Figure:
    """An episode at a glance: images of its queries, or of its steps without any, framed by how they were answered."""
    plan, number = shown.plan, int(shown.plan.episode[row])
    if shown.objects is not None:
        return mask_strip(shown, row, f"Episode {number}: what was segmented and masked out, step by step")
    first = plan.first_query if plan.first_query < plan.steps else 0
    steps = [*range(first, min(plan.steps, first + _SHOWN))]
    what = "queries" if first else "steps" if plan.steps > 1 else "its image"
    more = f", the first {len(steps)} of {plan.steps - first}" if len(steps) < plan.steps - first else ""
    return image_grid(shown, row, steps, f"Episode {number}: {what} in order{more}", columns=20, listed=False)


def _confusions(run: RunFolder, on: Subject, places: Places) -> Iterator[Figure]:
    protocol, record = on.protocol, run.record
    if record is None or not (protocol.stream or protocol.supervised or protocol.kind == "continual"):
        return
    per_episode = record.score_seconds / record.test_episodes
    most = _IMAGES if protocol.supervised else _MOST
    number = min(record.test_episodes, max(_FEWEST, min(most, int(_SECONDS / max(per_episode, 1e-6)))))
    # Test images may be sorted by class: they are taken evenly spaced.
    every = record.test_episodes // number if protocol.supervised else 1
    shown = played_extremes(run, on, range(0, every * number, every), places).shown
    if protocol.stream:
        yield outcomes_figure(shown)
        return
    counts, over = counted(shown), f"over the first {number} test episodes"
    if protocol.supervised:
        over = f"over {number} test images, evenly spaced" if every > 1 else f"over the first {number} test images"
        yield confusion_figure(f"What is taken for what, {over}", "class", counts, shown.table.names)
    else:
        names = [f"subtask {place}" for place in range(len(counts))]
        yield confusion_figure(f"Queries of which subtask are taken for which, {over}", "subtask", counts, names)


def _weighted(run: RunFolder) -> Weighted | None:
    path = run.folder / WEIGHTS
    return None if run.record is None else Weighted(run.record, path if path.is_file() else None)
