"""Images and labels in tables: Parquet files, or a repository on the Hugging Face hub."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from harness.data.parquet import rows_of
from harness.data.sources import Decoded, Source, content_digest
from harness.data.user import items, pixels
from harness.data.user.items import Encoded, Found, Item
from harness.data.user.model import OwnData
from harness.util.errors import UserError, nearest

Part = tuple[str, str, str, Any]
"""The source's own split, what messages call it, what its images' ids begin with, and its rows (a datasets.Dataset)."""


def parquet(data: OwnData, base: Path | None, root: Path | None) -> Source:
    """The rows of Parquet files; UserError where a pattern names none."""
    assert data.parquet is not None
    patterns = {"": data.parquet} if isinstance(data.parquet, str) else data.parquet
    files: dict[str, list[Path]] = {}
    for part, pattern in patterns.items():
        looked = items.places(pattern, base, root)
        files[part] = next(filter(None, map(_matching, looked)), [])
        if not files[part]:
            raise items.missing(data, f"file '{pattern}'", looked)
    content = content_digest((f"{part}/{file.name}", file) for part, each in sorted(files.items()) for file in each)
    return Source("the user's own, Parquet files", items.digest(data, content), partial(_parquet, data, files))


def hub(data: OwnData) -> Source:
    """The rows of a repository on the hub, which is not looked at before it is decoded."""
    assert data.hub is not None
    place = json.dumps([data.hub, data.config, data.revision])
    named = " ".join(filter(None, [data.hub, data.config, data.revision]))
    return Source(f"the user's own, {named} on the Hugging Face hub", items.digest(data, place), partial(_hub, data))


def _matching(pattern: Path) -> list[Path]:
    """The files that a pattern names, sorted; one that is a file's own name is that file."""
    if pattern.is_file():
        return [pattern]
    return [Path(each) for each in sorted(glob.glob(str(pattern), recursive=True)) if Path(each).is_file()]


def _parquet(data: OwnData, files: dict[str, list[Path]], scratch: Path) -> Decoded:
    parts: list[Part] = []
    problems = []
    common = os.path.commonpath([file.parent for each in files.values() for file in each])
    for part, each in files.items():
        for file in each:
            try:
                rows = rows_of(file, scratch / f"rows{len(parts)}")
            except ValueError as error:
                problems.append(str(error))
            else:
                parts.append((part, str(file), file.relative_to(common).as_posix(), rows))
    items.refuse(data, "Parquet files", problems)
    return _decoded(data, parts, "Parquet files", scratch)


def _hub(data: OwnData, scratch: Path) -> Decoded:
    import datasets

    assert data.hub is not None
    if Path(data.hub).is_dir():
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
    parts = [(name, f"{data.hub}, split {name}", name, rows) for name, rows in found.items()]
    return _decoded(data, parts, f"{data.hub} on the hub", scratch)


def _decoded(data: OwnData, parts: Iterable[Part], where: str, scratch: Path) -> Decoded:
    found: Found = {}
    problems: list[str] = []
    for part, called, prefix, rows in parts:
        classes = found.setdefault(part, {})
        if data.parts and part not in data.parts.values():
            continue
        try:
            for name, members in _classes(data, called, prefix, rows).items():
                classes[name] = [*classes.get(name, []), *members]
        except _Unusable as error:
            problems += error.problems
    items.refuse(data, where, problems)
    groups = items.grouped(data, found, where)
    items.skipped(data, "classes that are in no list", items.unlisted(data, found))
    return pixels.decoded(data, groups, where, scratch)


class _Unusable(Exception):
    def __init__(self, problems: list[str]) -> None:
        self.problems = problems


def _classes(data: OwnData, called: str, prefix: str, rows: Any) -> dict[str, list[Item]]:
    """The rows of a table by class; _Unusable with all that is wrong with its columns and labels."""
    columns = [data.image_column, data.label_column, *([data.mask] if data.mask else [])]
    absent = [each for each in columns if each not in rows.features]
    if absent:
        raise _Unusable([f"{called}: there is no column '{each}'{_meant(each, rows)}" for each in absent])
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
        if label is None or label == "":
            problems.append(f"{called}: row {row}: the label is null")
        else:
            place = f"{called}: row {row}"
            content = partial(_content, pictures, row, data)
            item = Item(f"{prefix}:{row}", place, f"{place}, column '{data.mask}'", content)
            classes.setdefault(label, []).append(item)
    if problems:
        raise _Unusable(problems)
    return classes


def _labels(data: OwnData, called: str, rows: Any, problems: list[str]) -> list[str | None]:
    """The class of each row by name, None where it has none."""
    import datasets

    feature = rows.features[data.label_column]
    if isinstance(feature, datasets.ClassLabel):
        names = dict(enumerate(feature.names))
        return [names.get(-1 if number is None else number) for number in _column(rows, data.label_column)]
    if re.fullmatch(r"u?int\d+|(large_)?string", _type(feature)):
        return [None if value is None else str(value) for value in _column(rows, data.label_column)]
    held = _type(feature)
    problems.append(f"{called}: column '{data.label_column}' holds {held}, not classes (whole numbers or text)")
    return []


def _column(rows: Any, name: str) -> list[Any]:
    return rows.select_columns([name]).with_format("arrow")[:][name].to_pylist()


def _content(pictures: Any, row: int, data: OwnData) -> tuple[Encoded, Encoded]:
    entry = pictures[row]
    return _encoded(entry[data.image_column]), _encoded(entry[data.mask]) if data.mask else None


def _encoded(entry: dict[str, Any] | None) -> Encoded:
    """The bytes of an image; what is not stored in the table itself is in a file beside it."""
    if entry is None:
        return None
    return entry["bytes"] or (Path(entry["path"]) if entry["path"] else None)


def _holds_images(feature: Any) -> bool:
    import datasets

    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, datasets.Image) or _type(feature) in {"binary", "large_binary"}


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", feature))


def _meant(column: str, rows: Any) -> str:
    guess = nearest(column, rows.column_names)
    return f"{f', did you mean {guess!r}?' if guess else ''} (it has {', '.join(rows.column_names)})"
