"""Test episodes of a finished run, played again: some that tell much, with images, and what is taken for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.evaluation.score import each
from harness.protocol.models import AnyProtocol
from harness.records.marks import PARTIAL_TEST
from harness.records.record import Record
from harness.report.choice import Chosen, by_confidence, by_score
from harness.report.commands import show_command
from harness.report.confusion import confusion_figure, counted, outcomes_figure
from harness.report.figure import Figure
from harness.report.image_grid import image_grid
from harness.report.mask_figure import mask_strip
from harness.report.page import episode_file
from harness.report.run_log import RunFolder
from harness.report.shown_episodes import ShownEpisodes
from harness.report.single_image import answer_in_words, single_image
from harness.report.sources import Places, Played, Subject, Weighted, played
from harness.util.tensor_files import WEIGHTS

_SHOWN = 75
"""Steps of an episode that are shown at most."""

_FEWEST, _MOST, _SECONDS = 20, 100, 15.0
"""Episodes that are played for what is taken for what: as many as take so long, by how long scoring took."""

_IMAGES = 1000
"""The same of supervised learning, where an episode is one image."""


@dataclass(frozen=True)
class Extreme:
    """A test episode: its number, how it came out in words, its images in order, and the address of its page from the
    index's folder."""

    number: int
    words: str
    picture: Figure | None
    page: str


@dataclass(frozen=True)
class Group:
    """Episodes that were chosen alike, and what to know of the choice ('' for nothing)."""

    title: str
    note: str
    episodes: Sequence[Extreme]


@dataclass(frozen=True)
class RunEpisodes:
    """What the page of a run shows of its episodes: groups of them, figures of confusions, what is missing, and the
    command that writes the page of the first."""

    groups: Sequence[Group] = ()
    confusions: Sequence[Figure] = ()
    note: str = ""
    command: str = ""


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


def run_episodes(run: RunFolder, on: Subject | None, places: Places) -> tuple[RunEpisodes, Played | None]:
    """What is shown of a run's episodes, and those with images as they were played; None for none."""
    values = None if on is None else episode_scores(run, on.protocol)
    if run.record is None or on is None or values is None:
        return NO_EPISODES, None
    sample = _sample(run, on, places)
    answers = sample is not None and sample.logits is not None
    confusions = [*_confusions(sample, len(values))] if sample is not None and answers else []
    single = sample if on.protocol.supervised and answers else None
    chosen = by_score(values) if single is None else by_confidence(single)
    if single is None and PARTIAL_TEST in run.record.marks and on.protocol.supervised:
        chosen = []  # the places in such a test are no numbers of episodes
    numbers = [number for group in chosen for number in group.numbers]
    if not numbers:
        return RunEpisodes(confusions=confusions), None
    found = _played(run, on, numbers, places)
    groups = [*_groups(run, chosen, values, found.shown)]
    return RunEpisodes(groups, confusions, found.note, show_command(run, on, numbers[0], places)), found


def _groups(run: RunFolder, chosen: Sequence[Chosen], values: np.ndarray, shown: ShownEpisodes) -> Iterator[Group]:
    row = 0
    for group in chosen:
        found = []
        for number in group.numbers:
            single = shown.protocol.supervised
            words = answer_in_words(shown, row) if single and shown.logits is not None else f"{values[number]:.1f} %"
            picture = None if shown.pixels is None else single_image(shown, row) if single else strip(shown, row)
            found.append(Extreme(number, words, picture, episode_file(run.protocol, run.name, number)))
            row += 1
        yield Group(group.title, group.note, found)


def strip(shown: ShownEpisodes, row: int) -> Figure:
    """An episode at a glance: images of its queries, or of its steps without any, framed by how they were answered."""
    plan, number = shown.plan, int(shown.plan.episode[row])
    if shown.objects is not None:
        return mask_strip(shown, row, f"Episode {number}: what was segmented and masked out, step by step")
    first = plan.first_query if plan.first_query < plan.steps else 0
    steps = [*range(first, min(plan.steps, first + _SHOWN))]
    more = f", the first {len(steps)} of {plan.steps - first}" if len(steps) < plan.steps - first else ""
    caption = f"Episode {number}: {'queries' if first else 'steps'} in order{more}"
    return image_grid(shown, row, steps, caption, listed=False)


def _sample(run: RunFolder, on: Subject, places: Places) -> ShownEpisodes | None:
    """Episodes with answers that stand for all, of a kind whose answers are counted; None for another."""
    protocol, record = on.protocol, run.record
    if record is None or not (protocol.stream or protocol.supervised or protocol.kind == "continual"):
        return None
    per_episode = record.score_seconds / record.test_episodes
    most = _IMAGES if protocol.supervised else _MOST
    number = min(record.test_episodes, max(_FEWEST, min(most, int(_SECONDS / max(per_episode, 1e-6)))))
    # Test images may be sorted by class: they are taken evenly spaced from those that were scored.
    every = record.test_episodes // number if protocol.supervised else 1
    return _played(run, on, _numbers(record, on, range(0, every * number, every)), places).shown


def _confusions(shown: ShownEpisodes, scored: int) -> Iterator[Figure]:
    """What is taken for what in a sample of the episodes that were `scored`."""
    number = len(shown.plan.episode)
    if shown.protocol.stream:
        yield outcomes_figure(shown)
        return
    counts = counted(shown)
    if shown.protocol.supervised:
        over = f"over {number} of the {scored} images that were scored, evenly spaced"
        if number == scored:
            over = f"over the {number} images that were scored"
        unseen = int((counts.sum(1) == 0).sum())
        over += f"; {unseen} of {len(counts)} classes are not among them" if unseen else ""
        yield confusion_figure(f"What is taken for what, {over}", "class", counts, shown.table.names)
    else:
        names = [f"subtask {place}" for place in range(len(counts))]
        over = f"over the first {number} test episodes"
        yield confusion_figure(f"Queries of which subtask are taken for which, {over}", "subtask", counts, names)


def _numbers(record: Record, on: Subject, places: Sequence[int]) -> Sequence[int]:
    """The numbers of test episodes by their places among those that were scored."""
    from harness.evaluation.evaluate import episode_numbers

    if on.dataset is None:
        return places
    found: list[int] = episode_numbers(on.protocol, on.dataset, "test", np.array(places), record.test_episodes).tolist()
    return found


def _played(run: RunFolder, on: Subject, numbers: Sequence[int], places: Places) -> Played:
    """These test episodes of a finished run, with what its method answers."""
    from harness.evaluation.evaluate import EVALUATION_SEED  # with torch, which pages of boards do without

    assert run.record is not None
    path = run.folder / WEIGHTS
    return played(on, "test", EVALUATION_SEED, numbers, Weighted(run.record, path if path.is_file() else None), places)
