"""Test episodes that a file fixes: found in the data set, and planned as those that are drawn are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from harness.data.dataset import ClassTable, Dataset, FixedImages, card_table
from harness.data.image_decoding import NAMED, listed
from harness.data.open_dataset import default_cache
from harness.data.own_test_images import with_test_images
from harness.data.places import data_places
from harness.data.sources import table_of
from harness.data.user.items import Encoded, Item
from harness.episodes.episode_plan import EpisodePlan
from harness.episodes.plans import PLANS
from harness.episodes.plans.drawing import earlier_presentations
from harness.protocol.episode_file import EpisodeFile, ShownImage
from harness.protocol.episode_reading import contradictions
from harness.protocol.episode_rows import Content, contents
from harness.protocol.models import AnyProtocol
from harness.util.errors import UserError, nearest
from harness.yaml_files.source_location import shown


def with_episodes(protocol: AnyProtocol, dataset: Dataset, cache: Path | None = None, rehash: bool = False) -> Dataset:
    """A data set with the test episodes that the protocol's file fixes, if it names one: those images become the test
    split that come with the file, decoded into `cache` once (`rehash` as for `load_dataset`).

    Raises UserError where the file speaks of images that are not there, or has images of its own that cannot be used.
    """
    file = protocol.episode_file
    if file is None:
        return dataset
    if file.own_images:
        classes, row = _own_classes(file)
        folder = (cache or default_cache()).expanduser().absolute()
        dataset = with_test_images(dataset, _items(file), classes, file.digest, folder, rehash)
        first = len(dataset.images) - len(file.images)
        fixed = FixedImages(first + file.shown, row)
    else:
        fixed = _found(file, dataset)
    return replace(dataset, tables={**dataset.tables, "test": replace(dataset.table("test"), fixed=fixed)})


def table_without_data(protocol: AnyProtocol, split: str) -> ClassTable:
    """The class table of a split of which no data are at hand: that of the data set's card; for episodes from a file as
    much as this says of their classes. UserError where there is no such split."""
    file = protocol.episode_file
    if file is None or split != "test":
        return card_table(protocol.card, split)
    classes, row = _own_classes(file)
    return replace(
        table_of(classes, [np.unique(each) for each in classes.values()]), fixed=FixedImages(file.shown, row)
    )


def episode_places(
    protocol: AnyProtocol, data_root: Path | None = None, cache: Path | None = None, base: Path | None = None
) -> tuple[Path, ...]:
    """Where data and test episodes of a protocol may lie, as `data_places` has it: the file that fixes them, with the
    right answers, and the folders of images that it names."""
    places = data_places(protocol.dataset, data_root, cache, base)
    if protocol.episode_file is None:
        return places
    file = protocol.episode_file
    named = {each.path.parent for image in file.images for each in (image.image, image.mask) if each and each.path}
    return tuple(dict.fromkeys([*places, file.path, *sorted(each.absolute() for each in named)]))


def plan(protocol: AnyProtocol, table: ClassTable, episodes: np.ndarray) -> EpisodePlan:
    """The plan of the numbered episodes of a file, whose phases and label timing are those of the protocol's kind.

    Raises UserError for a number that the file has not, and for a table of data that were not loaded for the protocol.
    """
    file = protocol.episode_file
    assert file is not None
    if table.fixed is None:
        raise UserError(
            f"the test episodes are those of {shown(file.path)}, which were not looked for in this data set; "
            "harness.with_episodes(protocol, dataset) does so"
        )
    beyond = episodes[(episodes < 0) | (episodes >= file.count)]
    if len(beyond):
        raise UserError(f"{shown(file.path)} has {file.count} episodes, from 0; episode {beyond[0]} does not exist")
    course, ways = _course(protocol), protocol.needs.classes
    target, row = file.target[episodes], table.fixed.row[episodes]
    first = course.first_query
    shot, revealed = (
        np.concatenate([known, _counts(target[:, :first], target[:, first:], ways)], axis=1)
        for known in earlier_presentations(target[:, :first], ways, protocol.label_delay or 1)
    )
    return replace(
        course,
        episode=episodes,
        classes=_classes(target, row, ways, len(table.names)),
        image=table.fixed.image[episodes],
        target=target,
        shot=shot,
        revealed=revealed,
    )


def _course(protocol: AnyProtocol) -> EpisodePlan:
    """An episode as it is drawn, from a table just large enough: what is the same in all episodes of the protocol."""
    needs = protocol.needs
    table = table_of(
        [str(c) for c in range(needs.classes)], np.arange(needs.classes * needs.images).reshape(needs.classes, -1)
    )
    return PLANS[protocol.kind](protocol, table, "train", (0, 0), np.array([0]))


def _counts(before: np.ndarray, queries: np.ndarray, ways: int) -> np.ndarray:
    """How often the class of each query [B, Q] was shown before the queries [B, S]."""
    counts = np.stack([(before == number).sum(axis=1) for number in range(ways)], axis=1)
    return np.take_along_axis(counts, queries, axis=1)


def _classes(target: np.ndarray, row: np.ndarray, ways: int, rows: int) -> np.ndarray:
    """The class of each class number, int64 [B, ways]; for numbers that an episode does not show (order 'iid'), others
    that it does not show."""
    found = np.full((len(target), ways), -1)
    np.put_along_axis(found, target, row, axis=1)
    for b in np.flatnonzero((found < 0).any(axis=1)):
        absent, missing = np.setdiff1d(np.arange(rows), found[b]), np.flatnonzero(found[b] < 0)
        found[b, missing] = np.resize(absent if len(absent) else np.arange(rows), len(missing))
    return found


def _found(file: EpisodeFile, dataset: Dataset) -> FixedImages:
    """Images and classes of the steps in the data set; UserError with all that is not in its test split."""
    if file.fingerprint is not None and not dataset.fingerprint.startswith(file.fingerprint):
        raise UserError(
            f"the episodes of {shown(file.path)} are on data with the fingerprint {file.fingerprint}..., and those of "
            f"{dataset.name} here have {dataset.fingerprint[: len(file.fingerprint)]}...: its images are others"
        )
    number = {name: n for n, name in enumerate(dataset.image_ids)}
    table = dataset.table("test")
    rows = np.repeat(np.arange(len(table.names)), table.sizes).tolist()
    classes_of: dict[int, list[int]] = {}
    for member, its_row in zip(table.members.tolist(), rows, strict=True):
        classes_of.setdefault(member, []).append(its_row)
    class_named = {name: n for n, name in enumerate(table.names)}
    image, row = np.zeros_like(file.shown), np.zeros_like(file.shown)
    problems: list[tuple[int, tuple[str, int | None, str | None]]] = []
    for place in np.ndindex(file.shown.shape):
        each = file.images[file.shown[place]]
        assert each.id is not None
        image[place] = number.get(each.id, -1)
        name = file.names[file.class_of[place]] if file.class_of[place] >= 0 else None
        fitting = [
            one
            for one in classes_of.get(int(image[place]), [])
            if (name is None or one == class_named.get(name))
            and (table.rotations[one] == each.turns or (each.turns is None and (name or not table.rotations[one])))
        ]
        if fitting:
            row[place] = fitting[0]
        else:
            problems.append((int(file.row[place]), (each.id, each.turns, name)))
    if problems:
        # Only the first are shown; a guess takes as long as there are images.
        first = [f"row {n}, {_why_not(*wanted, number, dataset)}" for n, wanted in sorted(problems)[:NAMED]]
        lines = [*first, *(f"row {n}" for n, _ in sorted(problems)[NAMED:])]
        raise UserError(f"the episodes of {shown(file.path)} are not on {dataset.name}:\n{listed(lines)}")
    conflicts = contradictions(file.row, file.target, row, table.names, "image_id")
    if conflicts:
        raise UserError(f"the episodes of {shown(file.path)} contradict {dataset.name}:\n{listed(conflicts)}")
    return FixedImages(image, row)


def _why_not(name: str, turns: int | None, class_name: str | None, number: dict[str, int], dataset: Dataset) -> str:
    table = dataset.table("test")
    if name not in number:
        guess = nearest(name, number)
        return f"image_id: there is no image '{name}'{f', did you mean {guess!r}?' if guess else ''}"
    splits = [split for split, each in dataset.tables.items() if number[name] in each.members]
    if "test" not in splits:
        where = " and ".join(splits) or "no split"
        return f"image_id: '{name}' is of {where}; test episodes show images of the test split"
    if class_name is not None and class_name not in table.names:
        guess = nearest(class_name, table.names)
        return f"class_name: there is no test class '{class_name}'{f', did you mean {guess!r}?' if guess else ''}"
    of = "" if class_name is None else f" of class '{class_name}'"
    return f"image_id: '{name}' at {turns or 0} quarter turns is no image{of}"


def _own_classes(file: EpisodeFile) -> tuple[dict[str, list[int]], np.ndarray]:
    """The classes of a file with the images of each, and the class of each step, int64 [E, T].

    Where the file names none, classes are told apart within each episode by number.
    """
    classes: dict[str, list[int]] = {name: [] for name in file.names}
    row = np.array(file.class_of)
    order = {name: n for n, name in enumerate(classes)}
    for place in np.ndindex(row.shape):
        if row[place] < 0:
            name = f"class {file.target[place]} of episode {place[0]}"
            row[place] = order.setdefault(name, len(order))
        else:
            name = file.names[row[place]]
        classes.setdefault(name, []).append(int(file.shown[place]))
    return classes, row


def _items(file: EpisodeFile) -> list[tuple[Item, int]]:
    """The images that come with a file, each with its quarter turns."""
    read = {column: _Held(file, column) for column in ("image", "mask")}
    return [
        (
            Item(
                f"row {image.row}",
                f"{file.path.name}, row {image.row}, image",
                f"{file.path.name}, row {image.row}, mask",
                partial(_contents, read, image),
            ),
            image.turns or 0,
        )
        for image in file.images
    ]


def _contents(read: dict[str, _Held], image: ShownImage) -> tuple[Encoded, Encoded]:
    return read["image"].of(image.row, image.image), read["mask"].of(image.row, image.mask)


class _Held:
    """Encoded images of one column: files by their path, bytes read from the rows in one pass.

    They are asked for in the order of episodes and steps; of rows in another order those in between wait in memory.
    """

    def __init__(self, file: EpisodeFile, column: str) -> None:
        wanted = [each.row for each in file.images if (held := getattr(each, column)) and held.path is None]
        self._rows: Iterator[tuple[int, bytes]] = contents(file.path, column, wanted)
        self._waiting: dict[int, bytes] = {}

    def of(self, row: int, content: Content | None) -> Encoded:
        if content is None or content.path is not None:
            return None if content is None else content.path
        while row not in self._waiting:
            number, found = next(self._rows)
            self._waiting[number] = found
        return self._waiting.pop(row)
