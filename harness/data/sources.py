"""Where a data set can come from: the raw files found under a root, and how to get them if there are none."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import ClassTable
from harness.util.errors import UserError

_SPLITS = Path(__file__).parent / "splits"
_CHUNK = 1 << 20
_PART = ".part-"


@dataclass(frozen=True)
class Decoded:
    """A data set as it comes out of its source: uint8 images [N, C, H, W], their names, and class tables.

    `masks` is uint8 [N, 1, H, W] with 1 on the object and 0 elsewhere, None where there are none. Arrays may be
    mapped from files in the folder that `Source.decode` was given. `mean` and `std` (per channel) are measured
    where no card can know them before: of a user's own data.
    """

    images: np.ndarray
    image_ids: tuple[str, ...]
    tables: dict[str, ClassTable]
    masks: np.ndarray | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Source:
    """Raw files that were found and how to decode them.

    `title` says what they are without naming a folder of this machine (it is written on records); `digest`
    is a hash of their content; `decode` gets an empty folder for its temporary files, removed afterwards.
    """

    title: str
    digest: str
    decode: Callable[[Path], Decoded]


@dataclass(frozen=True)
class Finder:
    """How one real data set is found.

    `version` is raised when the same files come to be decoded differently. `find` looks under a root and
    returns None where the files are not there; `places` are the files it looks for, relative to the root;
    `fetch` downloads them into a folder laid out like a root; `advice` says how to get them by hand.
    """

    version: int
    find: Callable[[Path], Source | None]
    places: tuple[str, ...]
    fetch: Callable[[Path], None]
    advice: str


def split_lines(name: str) -> tuple[str, ...]:
    """The lines of a shipped class list, in the order of the list."""
    return tuple((_SPLITS / f"{name}.txt").read_text(encoding="utf-8").split())


def content_digest(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 (hex) over names, sizes and contents of files, in the given order."""
    total = hashlib.sha256()
    for name, path in files:
        try:
            total.update(f"{name}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    total.update(chunk)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return total.hexdigest()


def table_of(names: Iterable[str], members: Iterable[np.ndarray], rotations: Iterable[int] | None = None) -> ClassTable:
    """A class table from the image numbers of each class; `rotations` are quarter turns, none where None."""
    names, rows = tuple(names), list(members)
    offsets = np.zeros(len(names) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    quarters = np.zeros(len(names), np.int8) if rotations is None else np.array(list(rotations), np.int8)
    return ClassTable(names, offsets, np.concatenate(rows).astype(np.int32), quarters)


def download(finder: Finder, folder: Path) -> None:
    """Fetch a data set into `folder`: whole, or not at all. Raises what the downloader raises.

    Safe against a second process (which waits) and a kill (what is left is taken away by the next call).
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "download.lock"):
        if finder.find(folder) is not None:
            return
        # Only the holder of the lock makes folders of this name, so what is left of one is nobody's.
        for stale in folder.glob(f"{_PART}*"):
            shutil.rmtree(stale, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=folder))
        try:
            finder.fetch(part)
            for child in sorted(part.iterdir()):
                os.replace(child, folder / child.name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
