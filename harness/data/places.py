"""Where the data of a protocol may lie on this machine: what a program that must not look images up must not find."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.open_dataset import DATA_VARIABLE, default_cache

if TYPE_CHECKING:
    from harness.data.user.model import OwnData

_IN_ROOT, _IN_OWN = 2, 3
"""Levels of folders that are searched for links to elsewhere: data sets and their parts in a root; splits, their
classes and the images of these in a data set of a user's own."""


def data_places(
    data: str | OwnData, data_root: Path | None = None, cache: Path | None = None, base: Path | None = None
) -> tuple[Path, ...]:
    """The data root, the cache, the cache of the Hugging Face hub, what a user's own data set names (images, tables and
    masks), and what links in these lead to.

    The arguments are those of `load_dataset`. Of a pattern of files it is the folder in which the pattern begins.
    """
    root = data_root or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    roots = [*([root] if root else []), cache or default_cache(), hub]
    own = [] if isinstance(data, str) else list(_own(data, base, root))
    depth = {each.expanduser().absolute(): _IN_ROOT for each in roots}
    depth |= {each.expanduser().absolute(): _IN_OWN for each in own}
    linked = [each for path, levels in depth.items() for each in _linked(path, levels)]
    return (*depth, *_outside(depth, linked))


def _own(data: OwnData, base: Path | None, root: Path | None) -> Iterator[Path]:
    """What a user's own data set names, wherever it is looked for."""
    from harness.data.user.items import places
    from harness.data.user.table_files import beginning, files_matching, paths_in

    for folder in places(data.folder, base, root) if data.folder else ():
        yield folder
        yield from _mask_folders(data, folder)
    patterns = data.parquet.values() if isinstance(data.parquet, dict) else filter(None, [data.parquet])
    columns = [data.image_column, *([data.mask] if data.mask else [])]
    for pattern in (each for name in patterns for each in places(name, base, root)):
        files = files_matching(pattern)
        yield from files if files == [pattern] else [beginning(pattern)] if files else []
        # Images that a table does not hold, but names.
        yield from {(file.parent / path).parent for file in files for path in paths_in(file, columns)}


def _mask_folders(data: OwnData, folder: Path) -> Iterator[Path]:
    """Where the masks of an image folder are that lie elsewhere than beside the images."""
    from harness.data.user.model import CLASS, STEM

    for part in data.parts.values() or [""]:
        for each in _folders(folder / part):
            before = (data.mask or "").replace(CLASS, each.name).partition(STEM)[0]
            where, slash, _ = before.rpartition("/")
            if slash and (masks := (each / where).resolve()).is_dir():
                yield masks


def _folders(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []


def _linked(folder: Path, depth: int) -> Iterator[Path]:
    """What links in a folder lead to: folders, and the folders of files."""
    try:
        inside = list(os.scandir(folder))
    except OSError:  # a file, or not there
        return
    for each in inside:
        if each.is_symlink():
            path = Path(each.path).resolve()
            yield path if path.is_dir() else path.parent
        elif depth > 1 and each.is_dir():
            yield from _linked(Path(each.path), depth - 1)


def _outside(named: Iterable[Path], others: Iterable[Path]) -> list[Path]:
    """Those that are in none of the named folders, each once, in order; never the whole file system."""
    within = {each.resolve() for each in named}
    return [
        each
        for each in sorted(set(others))
        if len(each.parts) > 1 and not any(each.is_relative_to(folder) for folder in within)
    ]
