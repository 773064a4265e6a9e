"""Whether episodes that a file fixes are episodes of the protocol that names it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.data.image_decoding import NAMED
from harness.protocol.course import Course, Part
from harness.protocol.episode_file import NOTHING, EpisodeFile


def unfit_episodes(course: Course, file: EpisodeFile) -> Iterator[str]:
    """Why the episodes cannot be those of a protocol, each with its row; the first few of many."""
    if not course.parts:
        yield f"kind {course.kind} takes no episodes from a file"
        return
    phases = [phase for part in course.parts for phase in [part.phase] * part.steps]
    if len(file.phase) != len(phases):
        yield (
            f"the episodes of {file.path.name} have {len(file.phase)} steps, but those of the protocol "
            f"{_listed(course.parts)}"
        )
        return
    problems = sorted(_problems(course, file, phases))
    for row, message in problems[:NAMED]:
        yield f"{file.path.name}, row {row}, {message}"
    if len(problems) > NAMED:
        yield f"and {len(problems) - NAMED} more rows of {file.path.name}"


def _listed(parts: tuple[Part, ...]) -> str:
    counts = [f"{part.steps} of phase {part.phase} ({part.ways} x {part.each})" for part in parts]
    return f"have {sum(part.steps for part in parts)}: {', then '.join(counts)}"


def _problems(course: Course, file: EpisodeFile, phases: list[str]) -> Iterator[tuple[int, str]]:
    """Rows, and what is wrong with them."""
    for t, (found, wanted) in enumerate(zip(file.phase, phases, strict=True)):
        if found != wanted:
            yield int(file.row[0, t]), f"phase: found '{found}', but step {t} of the protocol is '{wanted}'"
    first = 0
    for part in course.parts:
        yield from _of_part(part, file, first)
        first += part.steps
    yield from _repeated(course, file, phases)
    if file.own_images:
        yield from _masks(course, file)


def _of_part(part: Part, file: EpisodeFile, first: int) -> Iterator[tuple[int, str]]:
    steps = slice(first, first + part.steps)
    target, row = file.target[:, steps], file.row[:, steps]
    for place in zip(*np.nonzero(target >= part.ways), strict=True):
        yield int(row[place]), f"target: found {target[place]}, allowed are 0..{part.ways - 1}"
    if part.order == "iid" or (target >= part.ways).any():
        return
    shown = np.stack([(target == number).sum(axis=1) for number in range(part.ways)], axis=1)
    for e, number in zip(*np.nonzero(shown != part.each), strict=True):
        yield (
            int(row[e, 0]),
            f"target: {shown[e, number]} {part.phase} steps of this episode show class number {number}, "
            f"but the protocol has {part.each} of each class",
        )
    if (shown != part.each).any():
        return
    if part.order == "blocks":
        wanted, why = np.repeat(target[:, :: part.each], part.each, axis=1), "all samples of a class come together"
    elif part.order == "cyclic":
        wanted, why = np.tile(target[:, : part.ways], (1, part.each)), "one order of the classes repeats itself"
    else:
        return
    for place in zip(*np.nonzero(target != wanted), strict=True):
        yield int(row[place]), f"target: found {target[place]} where it must be {wanted[place]}, since {why}"


def _repeated(course: Course, file: EpisodeFile, phases: list[str]) -> Iterator[tuple[int, str]]:
    """What the file says besides of label timing and scoring, where that is not the protocol's."""
    reveals = revealing_steps(course)
    if file.reveals is not None:
        for place in zip(*np.nonzero(file.reveals != reveals), strict=True):
            yield (
                int(file.row[place]),
                f"reveals: found {_step(file.reveals[place])}, but by the label timing of the protocol step {place[1]} "
                f"follows the label of {_step(reveals[place[1]])} (leave the column out to have it so)",
            )
    if file.feedback is not None:
        feedback = np.where(reveals >= 0, file.target[:, reveals], NOTHING)
        for place in zip(*np.nonzero(file.feedback != feedback), strict=True):
            wanted = "null" if feedback[place] < 0 else feedback[place]
            found = "null" if file.feedback[place] < 0 else file.feedback[place]
            yield int(file.row[place]), f"feedback: found {found}, but what is revealed before this step is {wanted}"
    if file.scored is not None:
        queried = "query" in phases
        scored = np.array([phase == "query" or not queried for phase in phases])
        for place in zip(*np.nonzero(file.scored != scored), strict=True):
            wanted = "true" if scored[place[1]] else "false"
            what = "its queries alone" if queried else "all of its steps"
            yield int(file.row[place]), f"scored: expected {wanted}, since kind {course.kind} scores {what}"


def _step(number: int) -> str:
    return "null" if number < 0 else f"step {number}"


def _masks(course: Course, file: EpisodeFile) -> Iterator[tuple[int, str]]:
    for image in file.images:
        if course.masks and image.mask is None:
            yield image.row, f"mask: missing, and kind {course.kind} needs one for every image"
        if not course.masks and image.mask is not None:
            yield image.row, f"mask: kind {course.kind} has no masks. Leave it out"


def revealing_steps(course: Course) -> np.ndarray:
    """The step whose label is revealed before each step, int64 [T], -1 for none: as the plans of the kinds have it."""
    found: list[int] = []
    for part in course.parts:
        last = len(found) - 1
        for t in range(len(found), len(found) + part.steps):
            if part.phase == "support":
                found.append(t)
            elif part.phase == "stream":
                found.append(max(t - course.label_delay, NOTHING))
            else:
                found.append(last if course.parts[0].phase == "stream" else NOTHING)
    return np.array(found, np.int64)
