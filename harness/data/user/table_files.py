"""Parquet files on disk: which of them a pattern names, and which image files they name in turn."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.util.atomic_files import is_file, is_folder

_ROWS = 1000  # rows in memory at a time


def files_matching(pattern: Path) -> list[Path]:
    """The files that a pattern names, sorted; one that is a file's own name is that file.

    A folder that is there under the very name is that folder, as in 'birds [2024]/*.parquet'.
    """
    if is_file(pattern):
        return [pattern]
    folder = beginning(pattern)
    rest = pattern.relative_to(folder)
    found = glob.glob(str(Path(glob.escape(str(folder))) / rest), recursive=True)
    return [Path(each) for each in sorted(found) if is_file(Path(each))]


def beginning(pattern: Path) -> Path:
    """The innermost folder that is there under the very name that the pattern has for it."""
    folder = Path(pattern.anchor)
    for part in pattern.parts[1 if pattern.anchor else 0 :]:
        if not is_folder(folder / part):
            break
        folder = folder / part
    return folder


def has_rows(file: Path) -> bool:
    """Whether a table has rows, which writers of many shards leave some without; a damaged one is taken to have them.

    (What is wrong with it is found when its rows are read.)
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        return parquet.read_metadata(file).num_rows > 0
    except (pyarrow.ArrowException, OSError, ValueError):
        return True


def columns_of(file: Path) -> list[str] | None:
    """The names of a table's columns; None of what is no table."""
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        names: list[str] = parquet.read_schema(file).names
    except (pyarrow.ArrowException, OSError, ValueError):
        return None
    return names


def paths_in(file: Path, columns: Sequence[str]) -> Iterator[str]:
    """Paths of the images that a table names in `columns` without holding their bytes, in order, each once.

    A file that is no table names none; what is wrong with it is found when its rows are read.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(file) as table:
            leaves = {table.metadata.schema.column(j).path: j for j in range(table.metadata.num_columns)}
            named = [each for each in columns if {f"{each}.bytes", f"{each}.path"} <= leaves.keys()]
            named = [each for each in named if _may_lack_bytes(table.metadata, leaves[f"{each}.bytes"])]
            seen: set[str] = set()
            for column in named:
                for batch in table.iter_batches(_ROWS, columns=[f"{column}.bytes", f"{column}.path"]):
                    entries = batch.column(0).flatten()
                    kind = batch.column(0).type
                    held, paths = entries[kind.get_field_index("bytes")], entries[kind.get_field_index("path")]
                    for path in paths.filter(held.is_null()).to_pylist():
                        if isinstance(path, str) and path and path not in seen:
                            seen.add(path)
                            yield path
    except (pyarrow.ArrowException, OSError, ValueError):
        return


def _may_lack_bytes(metadata: Any, column: int) -> bool:
    """Whether a row may have no bytes, as far as the statistics of a file tell, which are read without its rows."""
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return True
    return False
