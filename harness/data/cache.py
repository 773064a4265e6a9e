"""The decoded cache: a data set is decoded once into a folder, verified and memory-mapped from then on.

All of it is read and hashed when it is opened, unless the files are as they were when that was done (`cache_stamp`).

`<cache>/<name>-v<version>-<source>/` holds images.npy (uint8 [N, C, H, W]), masks.npy (uint8 [N, 1, H, W], only
where the data set has masks), tables.json (class tables, image names, source) and meta.json (checksums). A
folder of that name is always whole: it is written under another name, while a file lock keeps other processes
waiting, and renamed when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.cache_stamp import is_unchanged, note_checked, states
from harness.data.cards import Card
from harness.data.dataset import SPLITS, ClassTable, Dataset
from harness.data.sources import Decoded, Source
from harness.util.errors import UserError
from harness.util.option_names import option
from harness.util.progress import track

LOG = logging.getLogger(__name__)

FORMAT = 1
_IMAGES, _MASKS, _TABLES, _META = "images.npy", "masks.npy", "tables.json", "meta.json"


def fingerprint(images: np.ndarray, tables: dict[str, ClassTable], masks: np.ndarray | None = None) -> str:
    """SHA-256 (hex) over pixels, masks (if any) and, for each split, its name and its classes' names, members
    and rotations.

    Two data sets with the same fingerprint give the same episodes, wherever they came from.
    """
    total = hashlib.sha256()
    for name, array in (("images", images), ("masks", masks)):
        if array is not None:
            total.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
            total.update(np.ascontiguousarray(array).data)
    for split in (each for each in SPLITS if each in tables):
        table = tables[split]
        total.update(json.dumps([split, table.names]).encode())
        for column, kind in ((table.offsets, "<i8"), (table.members, "<i4"), (table.rotations, "<i1")):
            total.update(json.dumps([kind, len(column)]).encode())
            total.update(np.ascontiguousarray(column, kind).tobytes())
    return total.hexdigest()


def folder_of(cache: Path, name: str, version: int, digest: str) -> Path:
    """The folder of one data set, decoded by one version of the decoder from one source."""
    return cache / f"{name}-v{version}-{digest[:16]}"


def decoded_before(cache: Path, name: str, version: int) -> Path | None:
    """A folder in the cache that holds the data set from whatever source, or None."""
    return next((path.parent for path in sorted(cache.glob(f"{name}-v{version}-*/{_META}"))), None)


def load(card: Card, version: int, source: Source, cache: Path, rehash: bool = False) -> Dataset:
    """The data set of a source, decoded first if that has not been done; `rehash` as for `opened`.

    Raises UserError where the source is broken, the cache cannot be written, or what it holds is corrupt.
    """
    folder = folder_of(cache, card.name, version, source.digest)
    if not folder.exists():
        _build(card, source, folder)
    return opened(card, folder, rehash)


def opened(card: Card, folder: Path, rehash: bool = False) -> Dataset:
    """The data set in a cache folder, memory-mapped, after all of it was checked against its checksums.

    Pixels that were checked before, in files that have not changed since, are hashed again only with `rehash`.
    Raises UserError naming the folder where anything differs.
    """
    try:
        meta = json.loads((folder / _META).read_bytes())
        raw = (folder / _TABLES).read_bytes()
        _expect(meta["format"] == FORMAT, f"it has format {meta['format']}, this version reads {FORMAT}")
        _expect(hashlib.sha256(raw).hexdigest() == meta["tables_sha256"], f"{_TABLES} is damaged")
        index = json.loads(raw)
        tables = {split: _table(index["tables"][split]) for split in SPLITS if split in index["tables"]}
        images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
        masks = np.load(folder / _MASKS, mmap_mode="r", allow_pickle=False) if meta.get("masks") else None
        pixels = _IMAGES if masks is None else f"{_IMAGES} or {_MASKS}"
        if rehash or not is_unchanged(folder, meta["fingerprint"]):
            before = states(folder)
            with track(f"checking the pixels of {card.name}"):
                _expect(fingerprint(images, tables, masks) == meta["fingerprint"], f"{pixels} is damaged")
            note_checked(folder, meta["fingerprint"], before)
        _expect(images.shape[1:] == card.image_shape, f"images are {images.shape[1:]}, not {card.image_shape}")
        _expect(card.masks == (masks is not None), f"it has {'no ' if masks is None else ''}masks, unlike its card")
        if index.get("mean"):
            card = _measured(card, tables, index)
        return Dataset(card, images, tuple(index["image_ids"]), tables, meta["fingerprint"], index["source"], masks)
    except Exception as error:  # damaged bytes can make the readers raise nearly anything
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
            raise UserError(f"cannot read the decoded data set {folder}: {error}") from error
        raise UserError(
            f"the decoded data set {folder} is corrupt: {error}. Nothing was changed; delete this folder and "
            "run again, and it will be decoded anew"
        ) from error


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _table(entry: dict[str, Any]) -> ClassTable:
    return ClassTable(
        tuple(entry["names"]),
        np.array(entry["offsets"], np.int64),
        np.array(entry["members"], np.int32),
        np.array(entry["turns"], np.int8),
    )


def _measured(card: Card, tables: dict[str, ClassTable], index: dict[str, Any]) -> Card:
    """The card with what was measured when the data set was decoded."""
    return replace(
        card,
        classes={split: len(table.names) for split, table in tables.items()},
        images_per_class={split: int(table.sizes.min()) for split, table in tables.items()},
        mean=tuple(index["mean"]),
        std=tuple(index["std"]),
    )


def _build(card: Card, source: Source, folder: Path) -> None:
    from filelock import FileLock

    with _writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f"{folder.name}.lock")
        with lock:
            if folder.exists():
                return
            # Only the holder of the lock builds under this name, so what is left of a build is nobody's.
            for stale in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(stale, ignore_errors=True)
            part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                LOG.info(f"preparing {card.name} ({source.title}) once in {folder}")
                scratch = part / "scratch"
                scratch.mkdir()
                mode = scratch.stat().st_mode & 0o777  # as the umask has it; mkdtemp's folders are private
                decoded = source.decode(scratch)
                _write(decoded, source, part)
                del decoded  # its arrays may be mapped from files in the scratch folder
                shutil.rmtree(scratch)
                part.chmod(mode)
                os.rename(part, folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)


def _write(decoded: Decoded, source: Source, part: Path) -> None:
    index = {
        "source": source.title,
        "tables": {
            split: {
                "names": table.names,
                "offsets": table.offsets.tolist(),
                "members": table.members.tolist(),
                "turns": table.rotations.tolist(),
            }
            for split, table in decoded.tables.items()
        },
        "image_ids": decoded.image_ids,
        "mean": decoded.mean,
        "std": decoded.std,
    }
    raw = json.dumps(index, separators=(",", ":")).encode()
    meta = {
        "format": FORMAT,
        "fingerprint": fingerprint(decoded.images, decoded.tables, decoded.masks),
        "tables_sha256": hashlib.sha256(raw).hexdigest(),
        "masks": decoded.masks is not None,
    }
    for name, array in ((_IMAGES, decoded.images), (_MASKS, decoded.masks)):
        if array is not None:
            with (part / name).open("wb") as file:
                np.save(file, array, allow_pickle=False)
                _settle(file)
    for name, content in ((_TABLES, raw), (_META, json.dumps(meta, indent=1).encode())):
        with (part / name).open("wb") as file:
            file.write(content)
            _settle(file)


def _settle(file: Any) -> None:
    # On the disk before the rename, so that a power cut cannot leave a complete name on empty files.
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write decoded data sets into {cache}: {error.strerror or error}. "
            f"Choose another folder with {option('cache', 'DIR')} or the environment variable HARNESS_CACHE"
        ) from error
