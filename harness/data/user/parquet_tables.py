"""Images and labels in tables: Parquet files, or a repository on the Hugging Face hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from harness.data.parquet import rows_of
from harness.data.sources import Decoded, Source, content_digest
from harness.data.user import items, pixels
from harness.data.user.items import Encoded, Found, Item
from harness.data.user.model import OwnData
from harness.data.user.table_files import columns_of, files_matching, has_rows, paths_in
from harness.util.atomic_files import is_file, is_folder
from harness.util.errors import UserError, nearest
from harness.util.text import printable

Part = tuple[str, str, str, Path, Any]
"""The source's own split, what messages call it, what its images' ids begin with, the folder that paths in it are
relative to, and its rows (a datasets.Dataset)."""

UNLABELLED = -1
"""The class number by which the `datasets` library marks rows without a label (hidden test labels)."""

_HIDDEN = " (where the labels of a split are hidden, leave it out: 'hub_splits' names those that are used)"


def files_of(data: OwnData, base: Path | None, root: Path | None) -> dict[str, list[Path]]:
    """The Parquet files of each part; UserError where a pattern names none."""
    assert data.parquet is not None
    patterns = {"": data.parquet} if isinstance(data.parquet, str) else data.parquet
    files: dict[str, list[Path]] = {}
    for part, pattern in patterns.items():
        looked = items.places(pattern, base, root)
        files[part] = next(filter(None, map(files_matching, looked)), [])
        if not files[part]:
            raise items.missing(data, f"file '{pattern}'", looked)
    return files


def check_columns(data: OwnData, files: dict[str, list[Path]]) -> None:
    """Raises UserError where a table lacks columns that the model names; no row is read."""
    problems = []
    for file in filter(has_rows, (file for each in files.values() for file in each)):
        names = columns_of(file)
        if names is None:  # no table: what is wrong with it is found when its rows are read
            continue
        problems += [
            f"{printable(file)}: there is no column '{each}'{_meant(each, names)}"
            for each in _columns(data)
            if each not in names
        ]
    items.refuse(data, "Parquet files", problems)


def _columns(data: OwnData) -> list[str]:
    return [data.image_column, data.label_column, *([data.mask] if data.mask else [])]


def parquet(data: OwnData, base: Path | None, root: Path | None) -> Source:
    """The rows of Parquet files, and the image files that they name; UserError where a pattern names no table.

    The path of an image that a table names is relative to the folder of the table.
    """
    files = files_of(data, base, root)
    tables = [(f"{part}/{file.name}", file) for part, each in sorted(files.items()) for file in each]
    columns = [data.image_column, *([data.mask] if data.mask else [])]
    listed = ((f"{name}: {path}", file.parent / path) for name, file in tables for path in paths_in(file, columns))
    # A file that is not there is told with its row when the table is read.
    content = content_digest(chain(tables, ((name, path) for name, path in listed if is_file(path))))
    return Source("the user's own, Parquet files", items.digest(data, content), partial(_parquet, data, files))


def hub(data: OwnData) -> Source:
    """The rows of a repository on the hub, which is not looked at before it is decoded."""
    assert data.hub is not None
    place = json.dumps([data.hub, data.config, data.revision])
    named = " ".join(filter(None, [data.hub, data.config, data.revision]))
    return Source(f"the user's own, {named} on the Hugging Face hub", items.digest(data, place), partial(_hub, data))


def _parquet(data: OwnData, files: dict[str, list[Path]], scratch: Path) -> Decoded:
    parts: list[Part] = []
    problems = []
    common = os.path.commonpath([file.parent for each in files.values() for file in each])
    for part, each in files.items():
        for file in filter(has_rows, each):
            try:
                rows = rows_of(file, scratch / f"rows{len(parts)}")
            except ValueError as error:
                problems.append(str(error))
            else:
                parts.append((part, printable(file), printable(file.relative_to(common).as_posix()), file.parent, rows))
    items.refuse(data, "Parquet files", problems)
    return _decoded(data, files, parts, "Parquet files", scratch)


def _hub(data: OwnData, scratch: Path) -> Decoded:
    import datasets

    assert data.hub is not None
    if is_folder(Path(data.hub)):
        # The library would take the folder for the repository.
        raise UserError(f"there is a folder '{data.hub}' here, so the hub repository of that name cannot be loaded")
    try:
        found = datasets.load_dataset(data.hub, data.config, revision=data.revision, cache_dir=str(scratch / "hub"))
    except Exception as error:  # the network and the library raise many kinds
        raise UserError(
            f"the data set '{data.name}' ({data.hub} on the Hugging Face hub) cannot be loaded: {error}\n"
            "If there is no connection, get its Parquet files elsewhere and name them in place of 'hub': "
            f"`hf download {data.hub} --repo-type dataset --local-dir DIR`, then 'parquet: DIR/**/*.parquet'"
        ) from error
    wanted = data.hub_splits or list(found)
    absent = [name for name in wanted if name not in found]
    where = f"{data.hub} on the hub"
    items.refuse(data, where, [f"hub_splits: there is no split '{name}'{items.meant(name, found)}" for name in absent])
    parts = [(name, f"{data.hub}, split {name}", name, scratch, found[name]) for name in wanted]
    return _decoded(data, wanted, parts, where, scratch)


def _decoded(data: OwnData, own_splits: Iterable[str], parts: Iterable[Part], where: str, scratch: Path) -> Decoded:
    found: Found = {name: {} for name in own_splits}
    problems: list[str] = []
    unlabelled: list[str] = []
    for part, called, prefix, folder, rows in parts:
        if not len(rows) or (data.parts and part not in data.parts.values()):
            continue
        try:
            for name, members in _classes(data, called, prefix, folder, rows, unlabelled).items():
                found[part].setdefault(name, []).extend(members)
        except _Unusable as error:
            problems += error.problems
    items.refuse(data, where, problems)
    items.skipped(data, "rows whose label is -1, which stands for no class", unlabelled)
    groups = items.grouped(data, found, where)
    items.skipped(data, "classes that are in no list", items.unlisted(data, found))
    return pixels.decoded(data, groups, where, scratch)


class _Unusable(Exception):
    def __init__(self, problems: list[str]) -> None:
        self.problems = problems


def _classes(
    data: OwnData, called: str, prefix: str, folder: Path, rows: Any, unlabelled: list[str]
) -> dict[str, list[Item]]:
    """The rows of a table by class; those without a class are added to `unlabelled`.

    Raises _Unusable with all that is wrong with its columns and labels.
    """
    columns = _columns(data)
    absent = [each for each in columns if each not in rows.features]
    if absent:
        raise _Unusable([f"{called}: there is no column '{each}'{_meant(each, rows.features)}" for each in absent])
    problems = []
    pictures = rows.select_columns([each for each in columns if each != data.label_column])
    for column in pictures.column_names:
        if _holds_images(rows.features[column]):
            import datasets

            pictures = pictures.cast_column(column, datasets.Image(decode=False))
        else:
            problems.append(f"{called}: column '{column}' holds {_type(rows.features[column])}, not images")
    labels = _labels(data, called, rows, problems)
    classes: dict[str, list[Item]] = {}
    for row, label in enumerate(labels):
        place = f"{called}: row {row}"
        if label == UNLABELLED:
            unlabelled.append(place)
        elif label is None or label == "":
            problems.append(f"{place}: the label is null{_HIDDEN if data.hub and not data.hub_splits else ''}")
        elif isinstance(label, int):
            problems.append(f"{place}: the label is {label}, and the column has no class of that number")
        else:
            content = partial(_content, pictures, row, data, folder)
            item = Item(f"{prefix}:{row}", place, f"{place}, column '{data.mask}'", content)
            classes.setdefault(label, []).append(item)
    if problems:
        raise _Unusable(problems)
    return classes


def _labels(data: OwnData, called: str, rows: Any, problems: list[str]) -> list[str | int | None]:
    """The class of each row by name; None where it is null, the number where that has no name."""
    import datasets

    feature = rows.features[data.label_column]
    if isinstance(feature, datasets.ClassLabel):
        names = dict(enumerate(feature.names))
        return [names.get(number, number) for number in _column(rows, data.label_column)]
    if re.fullmatch(r"u?int\d+|(large_)?string", _type(feature)):
        return [None if value is None else str(value) for value in _column(rows, data.label_column)]
    held = _type(feature)
    problems.append(f"{called}: column '{data.label_column}' holds {held}, not classes (whole numbers or text)")
    return []


def _column(rows: Any, name: str) -> list[Any]:
    return rows.select_columns([name]).with_format("arrow")[:][name].to_pylist()


def _content(pictures: Any, row: int, data: OwnData, folder: Path) -> tuple[Encoded, Encoded]:
    entry = pictures[row]
    return _encoded(entry[data.image_column], folder), _encoded(entry[data.mask], folder) if data.mask else None


def _encoded(entry: dict[str, Any] | None, folder: Path) -> Encoded:
    """The bytes of an image, or its file where the table holds only the path, relative to the table's `folder`."""
    if entry is None:
        return None
    if entry["bytes"] is not None:
        return bytes(entry["bytes"])
    return folder / entry["path"] if entry["path"] else None


def _holds_images(feature: Any) -> bool:
    import datasets

    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, datasets.Image) or _type(feature) in {"binary", "large_binary"}


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", feature))


def _meant(column: str, names: Iterable[str]) -> str:
    names = list(names)
    guess = nearest(column, names)
    return f"{f', did you mean {guess!r}?' if guess else ''} (it has {', '.join(names)})"
