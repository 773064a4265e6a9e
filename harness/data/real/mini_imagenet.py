"""mini-ImageNet (Vinyals et al. 2016) in the split of Ravi and Larochelle (ICLR 2017): 64/16/20 classes of 600 images.

Classes are named by WordNet ids, in the order of the authors' lists; images are ordered by class, then by file name.
Images of another size than 84x84 are resized by Pillow's LANCZOS filter without keeping the aspect, as the script did
that MAML's data were made with (cbfinn/maml, data/miniImagenet/proc_images.py); grey ones become colour. Pixels are
what Pillow makes of the JPEG files; each source has its own compression, and so its own fingerprint.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from harness.data import image_decoding, parquet
from harness.data.cards import Card
from harness.data.dataset import SPLITS
from harness.data.image_decoding import Picture
from harness.data.sources import Decoded, Finder, Source, content_digest, split_lines, table_of
from harness.util.errors import UserError

LOG = logging.getLogger(__name__)

FOLDER = "mini_imagenet"
SUFFIXES = (".jpg", ".jpeg", ".png")

_PARTS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
_ADVICE = (
    f"Get the images into <data root>/{FOLDER}/train/<WordNet id>/*.jpg, and so on for validation and test, in the "
    "division of https://github.com/twitter-research/meta-learning-lstm (data/miniImagenet, lists of files)"
)


@dataclass
class _Found:
    """Images as they are met: `named` has (file name, SHA-256 or '', number in the source) of each split and class."""

    named: dict[tuple[str, str], list[tuple[str, str, int]]]
    split_of: dict[str, str]
    count: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, split: str, name: str, file: str, digest: str = "") -> None:
        self.named[split, name].append((file, digest, self.count))
        self.count += 1

    def stranger(self, split: str, name: str) -> str:
        """Why a class is not one of this split."""
        there = self.split_of.get(name)
        return f"a class of {there}, not of {split}" if there else "not a class of mini-ImageNet"


def finder(card: Card) -> Finder:
    """How `mini_imagenet` is found; the card says how many images a class has, and their size."""
    places = (
        f"{FOLDER}/train-*.parquet, validation-*.parquet and test-*.parquet",
        f"{FOLDER}/train/<WordNet id>/*.jpg, validation/... and test/...",
    )
    return Finder(1, partial(_find, card), places, partial(_fetch, card), _ADVICE)


def lists() -> dict[str, tuple[str, ...]]:
    """The WordNet ids of each split, in the order of the official lists."""
    return {
        split: split_lines(f"mini_imagenet_{part}")
        for split, part in zip(SPLITS, ("train", "val", "test"), strict=True)
    }


def _find(card: Card, root: Path) -> Source | None:
    where = root / FOLDER
    shards = {split: sorted(where.glob(f"{split}-*.parquet")) for split in SPLITS}
    folders = {split: [where / part for part in parts if (where / part).is_dir()] for split, parts in _PARTS.items()}
    if all(shards.values()):
        digest = content_digest((file.name, file) for split in SPLITS for file in shards[split])
        return Source(
            "mini-ImageNet, Parquet files", digest, lambda scratch: _from_parquet(card, where, shards, scratch)
        )
    if all(folders.values()):
        chosen = {split: found[0] for split, found in folders.items()}
        files = [file for split in SPLITS for file in sorted(chosen[split].glob("*/*")) if _is_image(file)]
        digest = content_digest((file.relative_to(where).as_posix(), file) for file in files)
        return Source(
            "mini-ImageNet, class folders", digest, lambda scratch: _from_folders(card, where, chosen, scratch)
        )
    for kind, found in (("file {}-*.parquet", shards), ("folder {}", folders)):
        absent = [split for split in SPLITS if not found[split]]
        if len(absent) < len(SPLITS):
            raise UserError(f"{where} is incomplete: there is no {', no '.join(map(kind.format, absent))}")
    return None


def _from_parquet(card: Card, where: Path, shards: dict[str, list[Path]], scratch: Path) -> Decoded:
    files = [(split, file) for split in SPLITS for file in shards[split]]
    tables = parquet.read([file for _, file in files], "image", "label", scratch)
    found = _expected()
    for (split, _), table in zip(files, tables, strict=True):
        strangers: Counter[str] = Counter()
        for row, (label, (content, file)) in enumerate(zip(table.labels.tolist(), table.images(), strict=True)):
            name = table.classes[label] if label >= 0 else ""
            if (split, name) in found.named:
                # The bytes decide where rows have the same file name, or none.
                found.add(split, name, file, hashlib.sha256(content or b"").hexdigest())
            elif not name:
                found.problems.append(f"{table.file}: row {row} ({file or 'no name'}) has no class in column label")
            else:
                strangers[name] += 1
        found.problems += [
            f"{table.file}: {name} ({count} rows) is {found.stranger(split, name)}" for name, count in strangers.items()
        ]

    def every(numbers: np.ndarray) -> Iterator[Picture]:
        start = 0
        for table in tables:
            yield from table.pictures(numbers[start : start + len(table.labels)])
            start += len(table.labels)

    return _arranged(card, where, found, every, scratch)


def _from_folders(card: Card, where: Path, folders: dict[str, Path], scratch: Path) -> Decoded:
    found, files, stray = _expected(), [], []
    for split, folder in folders.items():
        for entry in sorted(folder.iterdir()):
            if not entry.is_dir():
                stray.append(entry)
            elif (split, entry.name) not in found.named:
                found.problems.append(f"{entry} is {found.stranger(split, entry.name)}")
            else:
                for file in sorted(entry.iterdir()):
                    if _is_image(file):
                        found.add(split, entry.name, file.name)
                        files.append(file)
                    else:
                        stray.append(file)
    if stray:
        LOG.warning(f"skipped in {where}, being no images:\n{image_decoding.listed(list(map(str, stray)))}")

    def every(numbers: np.ndarray) -> Iterator[Picture]:
        return (Picture(int(number), str(file), file) for number, file in zip(numbers, files, strict=True))

    return _arranged(card, where, found, every, scratch)


def _fetch(card: Card, folder: Path) -> None:
    from harness.data.real import mini_imagenet_hub

    mini_imagenet_hub.fetch(card, lists(), folder / FOLDER)


def _is_image(file: Path) -> bool:
    # macOS leaves files like ._a.jpg beside a.jpg, which are no images.
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def _expected() -> _Found:
    split_of = {name: split for split, names in lists().items() for name in names}
    return _Found({(split, name): [] for name, split in split_of.items()}, split_of)


def _arranged(
    card: Card, where: Path, found: _Found, every: Callable[[np.ndarray], Iterator[Picture]], scratch: Path
) -> Decoded:
    """The data set; `every(numbers)` gives the images of the source, to be decoded to these numbers.

    Raises UserError with all that is wrong: classes of another split, of too few or too many images; broken images.
    """
    problems = found.problems + [
        f"class {name} of {split} has {len(entries)} images instead of {card.images_per_class[split]}"
        for (split, name), entries in found.named.items()
        if len(entries) != card.images_per_class[split]
    ]
    if problems:
        raise UserError(
            f"{where} is not mini-ImageNet as Ravi and Larochelle split it:\n{image_decoding.listed(problems)}"
        )
    numbers = np.empty(found.count, np.int64)
    ids: list[str] = []
    place: dict[str, np.ndarray] = {}
    for (_, name), entries in found.named.items():
        seen: Counter[str] = Counter()
        place[name] = np.arange(len(ids), len(ids) + len(entries))
        for file, digest, number in sorted(entries):
            numbers[number] = len(ids)
            called = f"{name}/{file or digest[:12]}"
            seen[called] += 1
            ids.append(called if seen[called] == 1 else f"{called}-{seen[called]}")
    images = image_decoding.decoded(every(numbers), found.count, card.image_shape, scratch / "images", stretch=True)
    return Decoded(
        images, tuple(ids), {s: table_of(names, (place[name] for name in names)) for s, names in lists().items()}
    )
