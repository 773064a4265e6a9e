"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), and CIFAR-FS (Bertinetto et al., ICLR 2019), which is made of the latter.

`cifar10` and `cifar100` keep the official division into training and test images, with the same classes in both.
`cifar_fs` splits the classes of CIFAR-100 64/16/20 and uses all 600 images of a class, those of the training and the
test set together.

Images are ordered by class name (`cifar10` and `cifar100`: those to train first) and within a class by the SHA-256 of
their pixels, because not every layout keeps file names: so a data set is the same to the byte whichever layout it
came in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from harness.data import image_decoding, parquet
from harness.data.cards import Card
from harness.data.dataset import SPLITS
from harness.data.sources import Decoded, Finder, Source, content_digest, split_lines, table_of
from harness.util.errors import UserError

PARTS = ("train", "test")

_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Archive:
    """How CIFAR-10 or CIFAR-100 is published: on the hub as Parquet files, and as pickled files."""

    title: str
    parquet: str
    label: str
    pickled: str
    files: tuple[str, ...]

    @property
    def vision(self) -> str:
        """The class of `torchvision.datasets`."""
        return self.title.replace("-", "")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, sorted, which is their official order."""
        if self.parquet == "cifar10":
            return split_lines("cifar10")
        return tuple(sorted(name for part in ("train", "val", "test") for name in split_lines(f"cifar_fs_{part}")))


CIFAR10 = Archive(
    "CIFAR-10",
    "cifar10",
    "label",
    "cifar-10-batches-py",
    (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
)
CIFAR100 = Archive("CIFAR-100", "cifar100", "fine_label", "cifar-100-python", ("train", "test", "meta"))


@dataclass(frozen=True)
class _Raw:
    """All images of an archive in the order of its files.

    `images` are uint8 [N, 3, 32, 32]; `labels` [N] class numbers into `names`; `parts` [N] numbers into `PARTS`.
    """

    images: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    names: tuple[str, ...]


def finder(card: Card) -> Finder:
    """How `cifar10`, `cifar100` or `cifar_fs` is found; the card says how many images a class has."""
    archive = CIFAR10 if card.name == "cifar10" else CIFAR100
    places = (f"{archive.parquet}/train-*.parquet and test-*.parquet", archive.pickled)
    advice = (
        f"Get the Parquet files of https://huggingface.co/datasets/uoft-cs/{archive.parquet} into "
        f"<data root>/{archive.parquet}, or run `torchvision.datasets.{archive.vision}(root, download=True)` "
        f"with the data root (https://www.cs.toronto.edu/~kriz/cifar.html), which makes <data root>/{archive.pickled}"
    )
    return Finder(1, partial(_find, card, archive), places, partial(_fetch, archive), advice)


def _find(card: Card, archive: Archive, root: Path) -> Source | None:
    where, folder = root / archive.parquet, root / archive.pickled
    shards = {part: sorted(where.glob(f"{part}-*.parquet")) for part in PARTS}
    if all(shards.values()):
        digest = content_digest((file.name, file) for files in shards.values() for file in files)
        return Source(
            f"{archive.title}, Parquet files",
            digest,
            lambda scratch: _arranged(card, archive, where, _read_parquet(archive, where, shards, scratch)),
        )
    if folder.is_dir():
        files = [folder / name for name in archive.files if (folder / name).is_file()]
        digest = content_digest((file.name, file) for file in files)
        return Source(
            f"{archive.title}, python version",
            digest,
            lambda scratch: _arranged(card, archive, folder, _read_pickled(archive, root)),
        )
    if any(shards.values()):
        absent = next(part for part in PARTS if not shards[part])
        raise UserError(f"{where} is incomplete: there is no {absent}-*.parquet")
    return None


def _fetch(archive: Archive, folder: Path) -> None:
    import torchvision

    vision = getattr(torchvision.datasets, archive.vision)
    packed = folder / vision.filename
    vision(str(folder), download=True)
    packed.unlink(missing_ok=True)


def _read_parquet(archive: Archive, where: Path, shards: dict[str, list[Path]], scratch: Path) -> _Raw:
    """The images of Parquet files with the columns of the hub's `uoft-cs/cifar10` or `cifar100`.

    Raises UserError with every image that cannot be read, by file, row and name.
    """
    files = [file for part in PARTS for file in shards[part]]
    tables = parquet.read(files, "img", archive.label, scratch)
    names = tables[0].classes
    problems = [
        f"{table.file}: column {archive.label} has other class names" for table in tables if table.classes != names
    ]
    problems += [
        f"{table.file}: row {row} has no class in column {archive.label}"
        for table in tables
        for row in np.flatnonzero(table.labels < 0)
    ]
    if problems:
        raise UserError(f"{where} is not {archive.title}:\n{image_decoding.listed(problems)}")
    labels = np.concatenate([table.labels for table in tables])
    starts = np.cumsum([0, *(len(table.labels) for table in tables)])
    every = (
        picture
        for start, table in zip(starts, tables, strict=False)
        for picture in table.pictures(range(start, start + len(table.labels)))
    )
    images = image_decoding.decoded(every, len(labels), _SHAPE, scratch / "images", stretch=False)
    parts = np.repeat([PARTS.index(part) for part in PARTS for _ in shards[part]], np.diff(starts))
    return _Raw(images, labels, parts, names)


def _read_pickled(archive: Archive, root: Path) -> _Raw:
    """The same of the python version; torchvision unpickles only files whose MD5 is the official one."""
    import torchvision

    vision = getattr(torchvision.datasets, archive.vision)
    try:
        halves = [vision(str(root), train=part == "train", download=False) for part in PARTS]
    except RuntimeError as error:
        raise UserError(
            f"{root / archive.pickled} is incomplete or corrupt: the MD5 of one of its files "
            f"{', '.join(archive.files)} is wrong. Delete the folder and get it again"
        ) from error
    labels = np.concatenate([np.asarray(half.targets, np.int64) for half in halves])
    images = np.concatenate([half.data for half in halves]).transpose(0, 3, 1, 2)
    parts = np.repeat(np.arange(len(PARTS)), [len(half.targets) for half in halves])
    return _Raw(images, labels, parts, tuple(halves[0].classes))


def _arranged(card: Card, archive: Archive, where: Path, raw: _Raw) -> Decoded:
    """The data set of a card from all images of an archive."""
    rows = _rows(card, archive, where, raw)
    order: list[int] = []
    ids: list[str] = []
    place: dict[tuple[str, str], np.ndarray] = {}
    for (split, name), found in rows.items():
        # Hashed with the channels last, as the images are published.
        hashed = sorted(
            (hashlib.sha256(raw.images[row].transpose(1, 2, 0).tobytes()).hexdigest(), row) for row in found
        )
        place[split, name] = np.arange(len(order), len(order) + len(hashed))
        order += [row for _, row in hashed]
        ids += image_ids(name if card.disjoint else f"{split}/{name}", (digest for digest, _ in hashed))
    tables = {
        split: table_of(names, (place[split, name] for name in names))
        for split, names in _classes(card, archive).items()
    }
    return Decoded(np.ascontiguousarray(raw.images[order]), tuple(ids), tables)


def _classes(card: Card, archive: Archive) -> dict[str, tuple[str, ...]]:
    """The classes of each split in their order."""
    if card.disjoint:
        lists = (split_lines(f"cifar_fs_{part}") for part in ("train", "val", "test"))
        return dict(zip(SPLITS, lists, strict=True))
    return dict.fromkeys(PARTS, archive.names)


def _rows(card: Card, archive: Archive, where: Path, raw: _Raw) -> dict[tuple[str, str], list[int]]:
    """The images of each split and class, in the order in which these are stored.

    Raises UserError naming the classes that do not have as many images as the card says.
    """
    pairs = [(split, name) for split, names in _classes(card, archive).items() for name in names]
    if card.disjoint:
        pairs.sort(key=lambda pair: pair[1])
    found: dict[tuple[str, str], list[int]] = {pair: [] for pair in pairs}
    split_of = {name: split for split, name in pairs}
    strangers: Counter[str] = Counter()
    for row, (label, part) in enumerate(zip(raw.labels.tolist(), raw.parts.tolist(), strict=True)):
        name = raw.names[label]
        split = split_of.get(name, "") if card.disjoint else PARTS[part]
        if (split, name) in found:
            found[split, name].append(row)
        else:
            strangers[name] += 1
    problems = [
        f"{name} has {len(rows)} images{'' if card.disjoint else f' in {split}'}, not {card.images_per_class[split]}"
        for (split, name), rows in found.items()
        if len(rows) != card.images_per_class[split]
    ]
    problems += [f"{name} ({count} images) is no class of {archive.title}" for name, count in strangers.items()]
    if problems:
        together = ", train and test together" if card.disjoint else ""
        raise UserError(f"{where} is not the whole of {archive.title}{together}:\n{image_decoding.listed(problems)}")
    return found


def image_ids(name: str, digests: Iterable[str]) -> list[str]:
    """`<name>/<first 12 digits of the SHA-256 of the pixels>`, with `-2` and so on for identical images."""
    ids: list[str] = []
    seen: Counter[str] = Counter()
    for digest in digests:
        short = f"{name}/{digest[:12]}"
        seen[short] += 1
        ids.append(short if seen[short] == 1 else f"{short}-{seen[short]}")
    return ids
