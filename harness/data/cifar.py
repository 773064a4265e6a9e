"""CIFAR-FS (Bertinetto et al., ICLR 2019): CIFAR-100 (Krizhevsky 2009) with its classes split 64/16/20.

All 600 images of a class are used, those of CIFAR-100's training and test set together. Images are ordered by
class name and within a class by the SHA-256 of their pixels, because not every layout keeps file names: so
the data set is the same to the byte whichever layout it came in.
"""

from __future__ import annotations

import errno
import hashlib
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import SPLITS
from harness.data.sources import Decoded, Finder, Source, content_digest, split_lines, table_of
from harness.errors import UserError

IMAGES_PER_CLASS = 600
PARQUET, PICKLED = "cifar100", "cifar-100-python"

_COLUMNS = ("img", "fine_label")
_PARTS = ("train", "test")
_SHAPE = (32, 32, 3)
_ADVICE = (
    "Get the Parquet files of https://huggingface.co/datasets/uoft-cs/cifar100 into "
    f"<data root>/{PARQUET}, or run `torchvision.datasets.CIFAR100(root, download=True)` "
    f"with the data root (https://www.cs.toronto.edu/~kriz/cifar.html), which makes <data root>/{PICKLED}"
)


def finder() -> Finder:
    """How the images of CIFAR-100 are found for `cifar_fs`."""
    places = (f"{PARQUET}/train-*.parquet and test-*.parquet", PICKLED)
    return Finder(1, _find, places, _fetch, _ADVICE)


def _find(root: Path) -> Source | None:
    parquet = [sorted((root / PARQUET).glob(f"{part}-*.parquet")) for part in _PARTS]
    if all(parquet):
        files = [file for part in parquet for file in part]
        digest = content_digest((file.name, file) for file in files)
        where = root / PARQUET
        return Source(
            "CIFAR-100, Parquet files",
            digest,
            lambda scratch: _few_shot(where, *read_parquet(files, scratch)),
        )
    folder = root / PICKLED
    if folder.is_dir():
        files = [folder / name for name in (*_PARTS, "meta") if (folder / name).is_file()]
        digest = content_digest((file.name, file) for file in files)
        return Source("CIFAR-100, python version", digest, lambda scratch: _few_shot(folder, *_read_pickled(root)))
    return None


def _fetch(folder: Path) -> None:
    from torchvision.datasets import CIFAR100

    archive = folder / CIFAR100.filename
    CIFAR100(str(folder), download=True)
    archive.unlink(missing_ok=True)


def read_parquet(files: list[Path], scratch: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images uint8 [N, 32, 32, 3], class numbers [N] and class names of Parquet files, in their row order.

    The columns are those of the hub's `uoft-cs/cifar100`, with the features stored in the files; the
    `datasets` library keeps its Arrow copy in `scratch`. Raises UserError naming the file, row and image.
    """
    images, labels, names = [], [], None
    for number, file in enumerate(files):
        rows = _rows(file, scratch / str(number))
        known = tuple(getattr(rows.features["fine_label"], "names", ()))
        if names not in (None, known) or not known:
            raise UserError(f"{file}: column fine_label has no class names, or not those of {files[0].name}")
        names = known
        labels.append(np.asarray(rows.with_format("numpy")["fine_label"][:], np.int64))
        images.append(_pixels(file, rows))
    return np.concatenate(images), np.concatenate(labels), names or ()


def _rows(file: Path, scratch: Path) -> Any:
    """The file as a `datasets.Dataset` whose images are left encoded."""
    import datasets
    from datasets.utils.logging import get_verbosity, set_verbosity_error
    from datasets.utils.logging import set_verbosity as restore

    quiet, bars = get_verbosity(), datasets.are_progress_bars_disabled()
    set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        rows = datasets.Dataset.from_parquet(str(file), cache_dir=str(scratch))
    except Exception as error:  # pyarrow and datasets raise many kinds for broken files
        cause = _root(error)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise cause from error  # no room for the copy in `scratch`; the file is not to blame
        raise UserError(f"{file} cannot be read as a Parquet file: {cause}") from error
    finally:
        restore(quiet)
        if not bars:
            datasets.enable_progress_bars()
    absent = [column for column in _COLUMNS if column not in rows.column_names]
    if absent:
        raise UserError(f"{file} has no column {', '.join(absent)}; it has {', '.join(rows.column_names)}")
    if not isinstance(rows.features["img"], datasets.Image):
        raise UserError(f"{file}: column img holds {rows.features['img']}, not images")
    return rows.cast_column("img", datasets.Image(decode=False))


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _pixels(file: Path, rows: Any) -> np.ndarray:
    from PIL import Image

    out = np.empty((len(rows), *_SHAPE), np.uint8)
    row = 0
    for batch in rows.select_columns(["img"]).iter(batch_size=1000):
        for entry in batch["img"]:
            try:
                with Image.open(io.BytesIO(entry["bytes"])) as image:
                    if image.size != _SHAPE[:2]:
                        raise ValueError(f"it is {image.width}x{image.height}, not 32x32")
                    out[row] = np.asarray(image.convert("RGB"))
            except Exception as error:  # Pillow raises many kinds for broken files
                name = (entry or {}).get("path") or "no name"
                raise UserError(f"{file}: cannot read the image of row {row} ({name}): {error}") from error
            row += 1
    return out


def _read_pickled(root: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The same of the python version; torchvision unpickles only files whose MD5 is the official one."""
    from torchvision.datasets import CIFAR100

    try:
        parts = [CIFAR100(str(root), train=part == "train", download=False) for part in _PARTS]
    except RuntimeError as error:
        raise UserError(
            f"{root / PICKLED} is incomplete or corrupt: the MD5 of its files train, test or meta is wrong. "
            "Delete the folder and get it again"
        ) from error
    labels = np.concatenate([np.asarray(part.targets, np.int64) for part in parts])
    return np.concatenate([part.data for part in parts]), labels, tuple(parts[0].classes)


def _few_shot(where: Path, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> Decoded:
    """CIFAR-FS from all images (uint8 [N, 32, 32, 3]) with class numbers [N] into `names`."""
    lists = [split_lines(f"cifar_fs_{part}") for part in ("train", "val", "test")]
    counts = Counter(labels.tolist())
    wanted = sorted(name for part in lists for name in part)
    wrong = [
        f"{name} has {counts[names.index(name)] if name in names else 0}"
        for name in wanted
        if name not in names or counts[names.index(name)] != IMAGES_PER_CLASS
    ]
    if wrong:
        raise UserError(
            f"{where} is not the whole of CIFAR-100, train and test together: of {IMAGES_PER_CLASS} images, "
            f"{'; '.join(wrong[:5])}{f'; and {len(wrong) - 5} more classes' if len(wrong) > 5 else ''}"
        )
    order: list[int] = []
    ids: list[str] = []
    for name in wanted:
        rows = np.flatnonzero(labels == names.index(name)).tolist()
        hashed = sorted((hashlib.sha256(images[row].tobytes()).hexdigest(), row) for row in rows)
        order += [row for _, row in hashed]
        ids += image_ids(name, (digest for digest, _ in hashed))
    place = {name: np.arange(IMAGES_PER_CLASS) + IMAGES_PER_CLASS * i for i, name in enumerate(wanted)}
    tables = {split: table_of(part, (place[name] for name in part)) for split, part in zip(SPLITS, lists, strict=True)}
    pixels = np.ascontiguousarray(images[order].transpose(0, 3, 1, 2))
    return Decoded(pixels, tuple(ids), tables)


def image_ids(name: str, digests: Iterable[str]) -> list[str]:
    """`<class>/<first 12 digits of the SHA-256 of the pixels>`, with `-2` and so on for identical images."""
    ids: list[str] = []
    seen: Counter[str] = Counter()
    for digest in digests:
        short = f"{name}/{digest[:12]}"
        seen[short] += 1
        ids.append(short if seen[short] == 1 else f"{short}-{seen[short]}")
    return ids
