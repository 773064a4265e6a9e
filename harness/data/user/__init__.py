"""Reading a user's own data set: an image folder, Parquet files, or a repository on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from harness.data.sources import Source
from harness.data.user.model import OwnData

VERSION = 1
"""Raised when the same files come to be decoded differently."""


def source_of(data: OwnData, base: Path | None, root: Path | None) -> Source:
    """The data set's source, whose digest covers the content of its files and everything the model says of them.

    A relative path is looked for in `base` (the folder of the protocol file) and then under `root` (the data
    root), None for either that there is not. A hub repository is known by its name and revision; nothing of it is
    fetched before it is decoded.

    Raises UserError where the files are not there, or do not hold the classes that the model names.
    """
    if data.folder is not None:
        from harness.data.user import class_folders

        return class_folders.source(data, base, root)
    from harness.data.user import parquet_tables

    return parquet_tables.hub(data) if data.hub is not None else parquet_tables.parquet(data, base, root)


def find(data: OwnData, base: Path | None, root: Path | None) -> dict[str, dict[str, int]] | None:
    """How many images each class of each split has, of an image folder; None of tables, whose rows are not read.

    Raises UserError where the files are not there, a folder does not hold the classes that the model names, or a table
    has not its columns. No image is read, and a hub repository is not looked for.
    """
    if data.folder is not None:
        from harness.data.user import class_folders

        _, groups = class_folders.walked(data, base, root)
        return {split: {name: len(images) for name, images in group.items()} for split, group in groups.items()}
    if data.parquet is not None:
        from harness.data.user import parquet_tables

        parquet_tables.check_columns(data, parquet_tables.files_of(data, base, root))
    return None
