"""Protocols and episodes in words: a summary, what is revealed when, and a timeline of one episode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.dataset import ClassTable
from harness.plan import NULL, PHASES, EpisodePlan
from harness.spec import (
    AnyProtocol,
    Continual,
    DelayedLabel,
    NWayKShot,
    OnlineFewShot,
    SegmentationDistractors,
    StreamProtocol,
    digest,
)

_EXAMPLE = 12

LEGEND = (
    "At each step the learner receives the feedback, is shown an image of a class, and must answer its "
    "number.\n"
    "k-shot: k earlier presentations of the class (* a shot that the protocol reports); revealed: how many "
    "of them have a known label."
)
"""What the columns of a timeline mean."""


def summary(protocol: AnyProtocol) -> str:
    """One line: data set, shape of an episode, label timing, scoring."""
    return f"on {protocol.dataset}, {_shape(protocol)}, {_scoring(protocol)}"


def heading(name: str, protocol: AnyProtocol) -> str:
    """What the protocol is, when labels are revealed, and what is scored, in sentences."""
    lines = [
        f"{name}: {protocol.title}",
        f"Kind {protocol.kind}, digest {digest(protocol)[:12]}.",
        f"Data: {protocol.dataset} ({protocol.card.title}).",
        f"An episode: {_shape(protocol)}.",
    ]
    if isinstance(protocol, OnlineFewShot | DelayedLabel):
        lines += [timing(protocol.label_delay, protocol.steps)]
    lines += [f"Test: {_scoring(protocol)}."]
    return "\n".join(lines)


def timing(delay: int, steps: int) -> str:
    """When labels are revealed in an episode of `steps` steps, with an example."""
    if delay >= steps:
        return f"Labels would be revealed {delay} steps late: never, as an episode has {steps} steps."
    example = min(max(_EXAMPLE, delay), steps - 1)
    never = _labels(range(steps - delay, steps))
    return (
        f"The label of step t is revealed before step t + {delay}: "
        f"at step {example} {_labels(range(example - delay + 1))} known.\n"
        f"{never[0].upper()}{never[1:]} never revealed."
    )


def class_list(plan: EpisodePlan, table: ClassTable, row: int = 0) -> str:
    """Which class of the split each class number stands for in episode `row` of the plan."""
    names = [table.names[index] for index in plan.classes[row]]
    return "Classes: " + ", ".join(f"{number} = {name}" for number, name in enumerate(names))


def timeline(plan: EpisodePlan, table: ClassTable, shots: Sequence[int], row: int = 0) -> str:
    """One line a step of episode `row`: what is shown, revealed, known and scored.

    `shots` are the shots that the protocol reports; they are marked with a star.
    """
    names = [table.names[index] for index in plan.classes[row]]
    known: list[int] = []
    cells = [["step", "feedback", "labels known", "shown", "scored as", "revealed"]]
    for t in range(plan.steps):
        source = int(plan.reveals[t])
        if source != NULL:
            known.append(source)
        target, shot = int(plan.target[row, t]), int(plan.shot[row, t])
        phase = PHASES[plan.phase[t]]
        cells.append(
            [
                str(t) if phase == "stream" else f"{t} ({phase})",
                "null" if source == NULL else f"{plan.target[row, source]} (of step {source})",
                ranges(known) or "none",
                f"{target} {names[target]}",
                (f"{shot}-shot{' *' if shot in shots else ''}") if plan.scored[t] else "not scored",
                str(plan.revealed[row, t]),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip() for each in cells
    )


def ranges(steps: Sequence[int] | range) -> str:
    """Numbers with runs drawn together: '0..7', '0..3, 5'; '' for none."""
    numbers = sorted(steps)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in runs)


def table_of_card(protocol: StreamProtocol, split: str) -> ClassTable:
    """The class table of a split as its card describes it, with class numbers for names.

    Plans drawn from it are those of the real data wherever the card's sizes are exact.
    """
    count, size = protocol.card.classes[split], protocol.card.images_per_class[split]
    return ClassTable(
        names=tuple(f"class {index}" for index in range(count)),
        offsets=np.arange(count + 1, dtype=np.int64) * size,
        members=np.arange(count * size, dtype=np.int32),
        turns=np.zeros(count, np.int8),
    )


def _labels(steps: range) -> str:
    return f"the labels of steps {ranges(steps)} are" if len(steps) > 1 else f"the label of step {steps[0]} is"


def _shape(protocol: AnyProtocol) -> str:
    if isinstance(protocol, OnlineFewShot | DelayedLabel):
        shape = protocol.episode
        late = "one step" if protocol.label_delay == 1 else f"{protocol.label_delay} steps"
        if shape.order == "iid":
            return f"{protocol.steps} steps, each of a class drawn anew from {shape.ways}, labels {late} late"
        shown = f"{shape.ways} classes x {shape.presentations} presentations in random order"
        return f"{shown} = {protocol.steps} steps, labels {late} late"
    if isinstance(protocol, Continual):
        continual = protocol.episode
        return (
            f"{continual.subtasks} classes one after another, {continual.shots} samples each, "
            f"then {continual.queries} queries of each"
        )
    if isinstance(protocol, SegmentationDistractors):
        masks = protocol.episode
        return f"{masks.presentations} images of a target class" + (
            f" and {masks.presentations} of a distractor class in random order" if masks.distractor else ""
        )
    if isinstance(protocol, NWayKShot):
        support = protocol.episode
        return f"{support.ways} classes, {support.shots} labelled and {support.queries} query samples of each"
    return "one image, classes as in training"


def _scoring(protocol: AnyProtocol) -> str:
    scoring = protocol.scoring
    count = getattr(scoring, "test_episodes", None)
    if count is None:
        return "scored by accuracy on the whole test split"
    shots = getattr(scoring, "shots", None)
    if shots is None:
        return f"scored by query accuracy over {count} episodes"
    which = f"{'shots' if len(shots) > 1 else 'shot'} {', '.join(map(str, shots))}"
    return f"scored at {which} over {count} episodes"
