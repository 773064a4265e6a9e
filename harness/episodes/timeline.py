"""One episode as a timeline that a person can read: support pairs, stream and queries, step by step."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.data.dataset import ClassTable
from harness.episodes.plan import NULL, SUPPORT, EpisodePlan
from harness.protocol.models import AnyProtocol
from harness.protocol.words import ranges

QUERIES = 10
"""Queries shown one by one; the others differ in their image alone."""

_SHORTEST = 8
"""Characters that the name of a class is cut to at most."""

_CLASSES = 24
"""Classes named at most where an episode has all those of its data set."""

_ROLES, _EARNS = ("target", "distractor"), ("IoU", "masking")

Cells = list[list[str]]


def class_list(protocol: AnyProtocol, plan: EpisodePlan, table: ClassTable, row: int = 0) -> str:
    """Which class of the split each class number stands for in episode `row` of the plan."""
    names = _names(plan, table, row)
    if protocol.masks:
        return "Classes: " + ", ".join(f"{role} = {name}" for role, name in zip(_ROLES, names, strict=False))
    listed = [f"{number} = {name}" for number, name in enumerate(names)]
    if protocol.supervised and len(listed) > _CLASSES:
        listed[_CLASSES - 1 : -1] = ["..."]
    return "Classes: " + ", ".join(listed)


def timeline(
    protocol: AnyProtocol, plan: EpisodePlan, table: ClassTable, row: int = 0, width: int | None = None
) -> str:
    """One line a step of episode `row`: what is given or shown, revealed, known and scored.

    Shots that the protocol reports are marked with a star. Where there are queries, each phase has a line of its own
    above it, and only the first queries are shown one by one. Where lines were longer than `width` characters, the
    names of classes are cut short.
    """
    names = _names(plan, table, row)
    text = _timeline(protocol, plan, names, row, width)
    excess = 0 if width is None else max(map(len, text.splitlines())) - width
    if excess <= 0:
        return text
    room = max(_SHORTEST, max(map(len, names)) - excess)
    cut = [each if len(each) <= room else f"{each[: room - 2]}.." for each in names]
    return _timeline(protocol, plan, cut, row, width)


def _timeline(protocol: AnyProtocol, plan: EpisodePlan, names: Sequence[str], row: int, width: int | None) -> str:
    if protocol.supervised:
        return _lined(
            [["step", "feedback", "shown", "scored as"], ["0", "null", _shown(plan, names, row, 0), "accuracy"]]
        )
    if plan.phase[0] == SUPPORT:
        parts = ["Support pairs:", _lined(_pairs(plan, names, row))]
    elif plan.first_query < plan.steps:
        parts = ["Stream:", _lined(_stream(protocol, plan, names, row))]
    else:
        return _lined(_stream(protocol, plan, names, row))
    return "\n".join([*parts, "", *_queries(plan, names, row, width)])


def _pairs(plan: EpisodePlan, names: Sequence[str], row: int) -> Cells:
    cells = [["step", "image and label", "earlier pairs of the class"]]
    for t in range(plan.first_query):
        cells.append([str(t), _shown(plan, names, row, t), str(plan.shot[row, t])])
    return cells


def _stream(protocol: AnyProtocol, plan: EpisodePlan, names: Sequence[str], row: int) -> Cells:
    masks, queries = protocol.masks, plan.first_query < plan.steps
    scored = ["subtask"] if queries else ["scored as", "revealed"]
    cells = [["step", "feedback", "masks known" if masks else "labels known", "shown", *scored]]
    place, shots = _subtasks(plan, row), protocol.shots
    known: list[int] = []
    for t in range(plan.first_query):
        source, target, shot = int(plan.feedback_step[t]), int(plan.target[row, t]), int(plan.shot[row, t])
        if source != NULL:
            known.append(source)
        if masks:
            feedback, shown = _mask(plan, row, source), f"{_ROLES[target]} {names[target]}"
        else:
            feedback, shown = _label(plan, row, source), _shown(plan, names, row, t)
        by_shot = f"{shot}-shot{' *' if shot in shots else ''}"
        scored = [f"{_EARNS[target]}, {by_shot}" if masks else by_shot, str(plan.revealed[row, t])]
        if queries:
            scored = [str(place[target])]
        cells.append([str(t), feedback, ranges(known) or "none", shown, *scored])
    return cells


def _queries(plan: EpisodePlan, names: Sequence[str], row: int, width: int | None) -> list[str]:
    first, place = plan.first_query, _subtasks(plan, row)
    count, streamed = plan.steps - first, plan.phase[0] != SUPPORT
    when = "after the pairs"
    if streamed:
        when = f"as if it were step {first}, with feedback {_label(plan, row, first - 1)}"
    title = f"Queries, {count // len(names)} of each class in random order, each asked {when}:"
    lines = [title] if width is None else textwrap.wrap(title, width)
    cells = [["step", "asked", "subtask"] if streamed else ["step", "asked"]]
    for t in range(first, min(first + QUERIES, plan.steps)):
        subtask = [str(place[int(plan.target[row, t])])] if streamed else []
        cells.append([str(t), _shown(plan, names, row, t), *subtask])
    lines.append(_lined(cells))
    if count > QUERIES:
        lines.append(f"... and {count - QUERIES} more, up to step {plan.steps - 1}")
    return lines


def _names(plan: EpisodePlan, table: ClassTable, row: int) -> list[str]:
    return [table.names[index] for index in plan.classes[row]]


def _shown(plan: EpisodePlan, names: Sequence[str], row: int, t: int) -> str:
    target = int(plan.target[row, t])
    return f"{target} {names[target]}"


def _label(plan: EpisodePlan, row: int, source: int) -> str:
    return "null" if source == NULL else f"{plan.target[row, source]} (of step {source})"


def _mask(plan: EpisodePlan, row: int, source: int) -> str:
    if source == NULL:
        return "null (plane of -1)"
    return f"{'object' if plan.target[row, source] == 0 else 'empty'} (of step {source})"


def _subtasks(plan: EpisodePlan, row: int) -> dict[int, int]:
    """The place of each class number among those shown before the queries."""
    order = dict.fromkeys(plan.target[row, : plan.first_query].tolist())
    return {number: place for place, number in enumerate(order)}


def _lined(cells: Cells) -> str:
    """Lines with the columns lined up."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip() for each in cells
    )
