"""Reading a file of test episodes: rows put together to episodes, classes numbered, everything hashed."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.image_decoding import listed
from harness.protocol.episode_file import NOTHING, EpisodeFile, ShownImage
from harness.protocol.episode_rows import Rows, read_rows
from harness.util import philox
from harness.yaml_files.source_location import shown

_FORMAT = 1  # raised when the same rows come to mean other episodes; part of every digest of them


def read_episode_file(path: Path) -> EpisodeFile:
    """The episodes of a file; ValueError with everything that is wrong, each thing with its row."""
    try:
        state = path.stat()
    except OSError:
        return _read(path)  # which says what is wrong with the name
    found = _read_once(path, state.st_mtime_ns, state.st_size)
    changed = [each for each in found.images for content in (each.image, each.mask) if content and content.path]
    return _read(path) if changed else found  # what lies in files of their own may have changed since


@functools.lru_cache(maxsize=4)
def _read_once(path: Path, changed: int, size: int) -> EpisodeFile:
    return _read(path)


def _read(path: Path) -> EpisodeFile:
    problems: list[str] = []
    try:
        rows = read_rows(path, problems)
        _stop(problems)
        return _file(path, rows)
    except ValueError as error:
        said = str(error)
        raise ValueError(f"{shown(path)} cannot be used:{'' if said.startswith(chr(10)) else ' '}{said}") from None


def _stop(problems: list[str]) -> None:
    if problems:
        raise ValueError(problems[0] if len(problems) == 1 else "\n" + listed(problems))


def _file(path: Path, rows: Rows) -> EpisodeFile:
    at = _places(rows)
    columns = rows.columns
    row = np.asarray(rows.number, np.int64)[at]
    phase = tuple(columns["phase"][each] for each in at[0])
    problems = _differing(rows, at, phase)
    if "split" in columns:
        problems += [
            f"row {rows.number[n]}, split: found '{split}'; test episodes are of the test split"
            for n, split in enumerate(columns["split"])
            if split not in (None, "test")
        ]
    problems += [
        f"row {rows.number[n]}, scored: missing; expected true or false, as in other rows"
        for n, scored in enumerate(columns.get("scored", []))
        if scored is None
    ]
    names, class_of = _numbered(columns.get("class_name"), at)
    target = _whole(columns.get("target"), at)
    if target is None:
        if (class_of < 0).any():
            problems += [
                f"row {row[place]}: neither 'target' nor 'class_name' says which class is shown"
                for place in zip(*np.nonzero(class_of < 0), strict=True)
            ]
            _stop(problems)
        target = _drawn_targets(names, class_of)
    problems += [
        f"row {row[place]}, target: missing; expected the class number within the episode"
        for place in zip(*np.nonzero(target < 0), strict=True)
    ]
    problems += contradictions(row, target, class_of, names)
    images, shown_in = _images(rows, at, problems)
    _stop(problems)
    prints = sorted({each for each in columns.get("fingerprint", []) if each is not None})
    if len(prints) > 1:
        raise ValueError(f"its rows name several data sets in 'fingerprint': {', '.join(prints)}")
    found = EpisodeFile(
        path=path,
        digest="",
        row=row,
        phase=phase,
        target=target,
        shown=shown_in,
        images=images,
        names=names,
        class_of=class_of,
        feedback=_whole(columns.get("feedback"), at),
        reveals=_whole(columns.get("reveals"), at),
        scored=np.array(columns["scored"], bool)[at] if "scored" in columns else None,
        fingerprint=prints[0] if prints else None,
    )
    return replace(found, digest=_digest(found))


def _places(rows: Rows) -> np.ndarray:
    """Where in the columns each step of each episode is, int64 [E, T]: episodes in the order in which they begin."""
    problems: list[str] = []
    places: dict[int | str, dict[int, int]] = {}
    for n, (episode, step) in enumerate(zip(rows.columns["episode"], rows.columns["step"], strict=True)):
        if episode is None or step is None:
            name = "episode" if episode is None else "step"
            problems.append(f"row {rows.number[n]}, {name}: missing")
            continue
        steps = places.setdefault(episode, {})
        if step in steps:
            first = rows.number[steps[step]]
            problems.append(f"row {rows.number[n]}: step {step} of episode {episode} is in row {first} already")
        steps.setdefault(step, n)
    _stop(problems)
    count = max(len(steps) for steps in places.values())
    for episode, steps in places.items():
        absent = [t for t in range(count) if t not in steps]
        if absent:
            first = rows.number[min(steps.values())]
            problems.append(
                f"episode {episode} (from row {first}) has no step {absent[0]}; all episodes of a file have the same "
                f"steps, here 0..{count - 1}"
            )
    _stop(problems)
    return np.array([[steps[t] for t in range(count)] for steps in places.values()], np.int64)


def _differing(rows: Rows, at: np.ndarray, phase: tuple[str, ...]) -> list[str]:
    """Steps whose phase is another one than in the first episode."""
    given = rows.columns["phase"]
    problems = [f"row {rows.number[n]}, phase: missing" for n, value in enumerate(given) if value is None]
    return problems + [
        f"row {rows.number[n]}, phase: found '{given[n]}'; step {t} of the first episode is '{phase[t]}'"
        for steps in at.tolist()
        for t, n in enumerate(steps)
        if given[n] is not None and given[n] != phase[t]
    ]


def _whole(column: list[Any] | None, at: np.ndarray) -> np.ndarray | None:
    """A column of numbers as int64 [E, T], -1 where there is none; None where no row has one."""
    if column is None:
        return None
    return np.array([NOTHING if value is None else value for value in column], np.int64)[at]


def _numbered(column: list[str | None] | None, at: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes by name, and the number of each step's among them (-1 where the file does not say)."""
    if column is None:
        return (), np.full(at.shape, -1)
    names = sorted({each for each in column if each is not None})
    number: dict[str | None, int] = {name: n for n, name in enumerate(names)}
    return tuple(names), np.array([number.get(each, -1) for each in column], np.int64)[at]


def _drawn_targets(names: tuple[str, ...], class_of: np.ndarray) -> np.ndarray:
    """Class numbers within the episodes where the file gives only classes: permuted, so that a number tells nothing of
    the order in which classes come. They are a function of the classes alone."""
    ways = max(len(np.unique(steps)) for steps in class_of)
    content = hashlib.sha256(json.dumps(names).encode() + np.ascontiguousarray(class_of, "<i8").tobytes())
    key = philox.key_of("class numbers of episodes from a file", content.hexdigest())
    order = philox.shuffled(philox.words(key, np.arange(len(class_of)), 0, ways))
    rank = [np.unique(steps, return_inverse=True)[1] for steps in class_of]
    return np.stack([numbers[each] for numbers, each in zip(order, rank, strict=True)])


def contradictions(
    row: np.ndarray, target: np.ndarray, class_of: np.ndarray, names: Sequence[str], column: str = "class_name"
) -> list[str]:
    """Rows that give a class another number, or a number another class, than most rows of their episode; `column` is
    what says which class it is."""
    if _bijective(target, class_of):
        return []
    problems = []
    for rows, numbers, classes in zip(row, target, class_of, strict=True):
        for given, others, what in ((classes, numbers, "class"), (numbers, classes, "number")):
            for each in np.unique(given[(classes >= 0) & (numbers >= 0)]):
                here = given == each
                values, counts = np.unique(others[here], return_counts=True)
                usual = values[counts.argmax()]
                first = rows[here & (others == usual)][0]
                for at in np.flatnonzero(here & (others != usual)):
                    named = names[classes[at]]
                    if what == "class":
                        problems.append(
                            f"row {rows[at]}, target: found {numbers[at]}, but class '{named}' of this episode is "
                            f"number {usual} (row {first})"
                        )
                    elif np.count_nonzero(classes == classes[at]) == np.count_nonzero(here & (classes == classes[at])):
                        problems.append(
                            f"row {rows[at]}, {column}: found '{named}' as number {each}, which is "
                            f"'{names[usual]}' in row {first} of this episode"
                        )
    return problems


def _bijective(target: np.ndarray, class_of: np.ndarray) -> bool:
    """Whether in every episode each class has one number, and each number one class."""
    at = np.nonzero((class_of >= 0) & (target >= 0))
    triples = np.unique(np.stack([at[0], class_of[at], target[at]]), axis=1)
    return all(np.unique(triples[[0, key]], axis=1).shape == (2, triples.shape[1]) for key in (1, 2))


def _images(rows: Rows, at: np.ndarray, problems: list[str]) -> tuple[tuple[ShownImage, ...], np.ndarray]:
    """The distinct images in the order in which they are shown, and which of them each step shows."""
    absent = [None] * len(rows.number)
    ids, own = rows.columns.get("image_id", absent), rows.columns.get("image", absent)
    masks, turns = rows.columns.get("mask", absent), rows.columns.get("turns", absent)
    # An exported file may have both: what comes with it is then what is shown.
    by_id = "image" not in rows.columns
    found: dict[tuple[Any, ...], ShownImage] = {}
    numbers: dict[tuple[Any, ...], int] = {}
    shown_in = np.zeros(at.shape, np.int64)
    for e, steps in enumerate(at.tolist()):
        for t, n in enumerate(steps):
            if (ids[n] if by_id else own[n]) is None:
                wanted = "'image_id' or 'image'" if by_id else "'image', which other rows have"
                problems.append(f"row {rows.number[n]}: nothing says which image is shown; expected {wanted}")
                continue
            if by_id and masks[n] is not None:
                problems.append(f"row {rows.number[n]}, mask: images of the data set have its masks; leave it out")
            each = (
                ShownImage(rows.number[n], ids[n], turns[n])
                if by_id
                else ShownImage(rows.number[n], None, turns[n] or 0, own[n], masks[n])
            )
            key = _identity(each)
            found.setdefault(key, each)
            shown_in[e, t] = numbers.setdefault(key, len(numbers))
    return tuple(found.values()), shown_in


def _identity(image: ShownImage) -> tuple[Any, ...]:
    """What tells images apart."""
    contents = [each and each.digest for each in (image.image, image.mask)]
    return (image.id, image.turns, *contents)


def _digest(file: EpisodeFile) -> str:
    head = json.dumps([_FORMAT, list(file.target.shape), file.phase, [_identity(each) for each in file.images]])
    total = hashlib.sha256(head.encode())
    for numbers in (file.target, file.shown):
        total.update(np.ascontiguousarray(numbers, "<i8").tobytes())
    turning = _turned_by_class(file)
    if turning is not None:  # left out elsewhere, so that digests from before it was counted stay what they were
        total.update(json.dumps(turning).encode())
    return total.hexdigest()


def _turned_by_class(file: EpisodeFile) -> list[list[str | None]] | None:
    """The class of each step where only the class says by how much an image is turned; None where there is no such."""
    if file.own_images:  # images of their own that say nothing are not turned
        return None
    by_class = np.array([image.turns is None for image in file.images])[file.shown] & (file.class_of >= 0)
    if not by_class.any():
        return None
    return [
        [file.names[number] if turned else None for number, turned in zip(*steps, strict=True)]
        for steps in zip(file.class_of.tolist(), by_class.tolist(), strict=True)
    ]
