"""Images and class labels from Parquet files as the `datasets` library writes them (the layout of the hub)."""

from __future__ import annotations

import errno
import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from harness.data.image_decoding import Picture, listed
from harness.util.errors import UserError


@dataclass(frozen=True)
class Table:
    """One Parquet file with its images left encoded.

    `labels` are class numbers int64 [rows] into `classes`, -1 where a row has none of them.
    """

    file: Path
    labels: np.ndarray
    classes: tuple[str, ...]
    column: str
    rows: Any  # a datasets.Dataset

    def images(self) -> Iterator[tuple[bytes | None, str]]:
        """Encoded bytes (None where there is no image) and file name ('' where it has none) of each row."""
        for batch in self.rows.select_columns([self.column]).iter(batch_size=500):
            for entry in batch[self.column]:
                found = entry or {}
                yield found.get("bytes"), PurePosixPath(found.get("path") or "").name

    def pictures(self, numbers: Iterable[int]) -> Iterator[Picture]:
        """The images of all rows, to be decoded to these numbers."""
        for row, (number, (content, name)) in enumerate(zip(numbers, self.images(), strict=True)):
            yield Picture(int(number), f"{self.file}: row {row} ({name or 'no name'})", content)


def read(files: Sequence[Path], image: str, label: str, scratch: Path) -> list[Table]:
    """The files as tables; the `datasets` library keeps its Arrow copies in `scratch`.

    `image` and `label` name the columns; the label must have class names in the features that the file states.
    Raises UserError naming every file that cannot be read or lacks a column.
    """
    tables: list[Table] = []
    problems: list[str] = []
    for number, file in enumerate(files):
        try:
            tables.append(_table(file, image, label, scratch / str(number)))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UserError(f"Parquet files that cannot be used:\n{listed(problems)}")
    return tables


def _table(file: Path, image: str, label: str, scratch: Path) -> Table:
    import datasets

    rows = rows_of(file, scratch)
    absent = [column for column in (image, label) if column not in rows.column_names]
    if absent:
        raise ValueError(f"{file} has no column {', '.join(absent)}; it has {', '.join(rows.column_names)}")
    if not isinstance(rows.features[image], datasets.Image):
        raise ValueError(f"{file}: column {image} holds {rows.features[image]}, not images")
    if not isinstance(rows.features[label], datasets.ClassLabel):
        raise ValueError(f"{file}: column {label} has no class names")
    column = rows.select_columns([label]).with_format("arrow")[:][label]
    labels = column.fill_null(-1).to_numpy().astype(np.int64)
    classes = tuple(rows.features[label].names)
    known = np.where((labels >= 0) & (labels < len(classes)), labels, -1)
    return Table(file, known, classes, image, rows.cast_column(image, datasets.Image(decode=False)))


def rows_of(file: Path, scratch: Path) -> Any:
    """The file as a `datasets.Dataset`, whose Arrow copy is kept in `scratch`; ValueError where it cannot be read."""
    import datasets
    from datasets.utils.logging import get_verbosity, set_verbosity_error
    from datasets.utils.logging import set_verbosity as restore

    quiet, bars = get_verbosity(), datasets.are_progress_bars_disabled()
    set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        return datasets.Dataset.from_parquet(glob.escape(str(file)), cache_dir=str(scratch))
    except Exception as error:  # pyarrow and datasets raise many kinds for broken files
        cause = _root(error)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise cause from error  # no room for the copy in `scratch`; the file is not to blame
        raise ValueError(f"{file} cannot be read as a Parquet file: {cause}") from error
    finally:
        restore(quiet)
        if not bars:
            datasets.enable_progress_bars()


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
