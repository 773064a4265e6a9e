"""An image folder: one folder of images for each class, and masks beside the images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness.data.sources import Decoded, Source, content_digest
from harness.data.user import items, pixels
from harness.data.user.items import Encoded, Found, Grouped, Item
from harness.data.user.model import CLASS, STEM, OwnData
from harness.util.atomic_files import is_file, is_folder
from harness.util.errors import UserError, first_few
from harness.util.text import printable

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
    *(".pnm", ".avif", ".jp2"),
)
"""Files with these endings are images, in capitals too; others are left aside."""


class _Walk:
    """What one look through the folder came to: images, what is wrong, and what is left aside."""

    def __init__(self, data: OwnData, where: Path) -> None:
        self.data, self.where = data, where
        self.wanted = {items.composed(name) for names in data.lists.values() for name in names}
        self.problems: list[str] = []
        self.stray: list[str] = []
        self.found: Found = {}
        self.without: dict[str, str] = {}
        parts = set(data.parts.values())
        for part in sorted(parts) or [""]:
            folder = where / part
            if is_folder(folder):
                self.found[part] = self._classes(folder)
        if parts:
            others = (each for each in _inside(where) if each.is_dir() and each.name not in parts)
            self.found |= {printable(each.name): {} for each in others}

    def _classes(self, folder: Path) -> dict[str, list[Item]]:
        inside = _inside(folder)
        self.stray += [self._name(each) for each in inside if not each.is_dir()]
        classes = [each for each in inside if each.is_dir()]
        if not classes:
            self.problems.append(f"{folder} has no class folders; expected a folder of images for each class")
        self.problems += self._of_splits(folder, classes)
        # What is in no list is not looked into.
        every = not self.wanted
        return {
            printable(each.name): self._images(each) if every or items.composed(each.name) in self.wanted else []
            for each in classes
        }

    def _of_splits(self, folder: Path, classes: list[Path]) -> Iterator[str]:
        """What is wrong where the classes lie one folder deeper, in folders of splits."""
        if not self.wanted or any(items.composed(each.name) in self.wanted for each in classes):
            return
        some = [name for names in self.data.lists.values() for name in names[:1]]
        first = next((each / name for name in some for each in classes if is_folder(each / name)), None)
        if first is not None:
            yield (
                f"{printable(folder)} has no folder for any class, but {printable(first.parent.name)}/ has one for "
                f"{printable(first.name)}: for folders of splits, name them in place of the classes, as in "
                "'splits: {train: train, validation: val, test: test, disjoint: true}'"
            )

    def _images(self, folder: Path) -> list[Item]:
        pattern = self.data.mask and self.data.mask.replace(CLASS, folder.name)
        inside = _inside(folder)
        # With masks among the images, a file that is named like a mask is none of the images.
        like_mask = _matcher(pattern) if pattern and "/" not in pattern else None
        images = [each for each in inside if _is_image(each) and not (like_mask and like_mask.fullmatch(each.name))]
        masks = {each: _there(folder / pattern.replace(STEM, each.stem)) for each in images} if pattern else {}
        listed = {each.name for each in [*images, *masks.values()]} | {(pattern or "").partition("/")[0]}
        others = [each for each in inside if each.name not in listed]
        self.stray += [self._name(each) for each in others]
        absent = [(each, mask) for each, mask in masks.items() if not is_file(mask)]
        self.problems += [f"{printable(mask)} is missing, the mask of {printable(each.name)}" for each, mask in absent]
        if not images and others:
            self.without[printable(folder.name)] = _instead(others)
        return [self._item(each, masks.get(each)) for each in images]

    def _item(self, image: Path, mask: Path | None) -> Item:
        called = "" if mask is None else printable(mask)
        return Item(self._name(image), printable(image), called, partial(_content, image, mask))

    def _name(self, path: Path) -> str:
        return printable(path.relative_to(self.where).as_posix())


def walked(data: OwnData, base: Path | None, root: Path | None) -> tuple[_Walk, Grouped]:
    """The files of an image folder; UserError where it is not there or lacks classes, images or masks."""
    assert data.folder is not None
    looked = items.places(data.folder, base, root)
    where = next((each for each in looked if is_folder(each)), None)
    if where is None:
        raise items.missing(data, f"folder '{data.folder}'", looked)
    walk = _Walk(data, where)
    items.refuse(data, str(where), walk.problems)
    return walk, items.grouped(data, walk.found, str(where), walk.without)


def source(data: OwnData, base: Path | None, root: Path | None) -> Source:
    """The images of an image folder; UserError as `walked` raises it."""
    walk, groups = walked(data, base, root)
    used = [item for group in groups.values() for members in group.values() for item in members]
    images, masks = [], []
    for item in used:
        image, mask = item.content()
        assert isinstance(image, Path)
        images.append((item.id, image))
        if isinstance(mask, Path):
            masks.append((f"mask of {item.id}", mask))
    content = content_digest([*images, *masks])
    return Source("the user's own, an image folder", items.digest(data, content), partial(_decode, data, walk, groups))


def _decode(data: OwnData, walk: _Walk, groups: Grouped, scratch: Path) -> Decoded:
    items.skipped(data, "class folders that are in no list", items.unlisted(data, walk.found))
    items.skipped(data, "files that are no images", walk.stray)
    return pixels.decoded(data, groups, str(walk.where), scratch)


def _content(image: Path, mask: Path | None) -> tuple[Encoded, Encoded]:
    return image, mask


def _inside(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name, without what is hidden."""
    try:
        return sorted((each for each in folder.iterdir() if not each.name.startswith(".")), key=lambda each: each.name)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _matcher(pattern: str) -> re.Pattern[str]:
    """What names of masks match; capitals of the suffix do not matter, as with images."""
    stem, suffix = os.path.splitext(pattern)
    return re.compile(".+".join(map(re.escape, stem.split(STEM))) + f"(?i:{re.escape(suffix)})")


def _there(mask: Path) -> Path:
    """The file of that name, or else the only one whose suffix differs in capitals alone."""
    if is_file(mask):
        return mask
    spelt = {mask.with_suffix(each) for each in (mask.suffix.lower(), mask.suffix.upper(), mask.suffix.capitalize())}
    alike = [each for each in spelt if is_file(each)]
    return alike[0] if len(alike) == 1 else mask


def _instead(others: list[Path]) -> str:
    """What a class folder without images holds."""
    folders = [printable(each.name) for each in others if each.is_dir()]
    if folders:
        return (
            f"; its folder has folders of its own ({first_few(folders, 3)}), and images are looked for in the class "
            "folder alone"
        )
    named = first_few([printable(each.name) for each in others], 3)
    return f"; its files ({named}) end in none of {', '.join(SUFFIXES)}"
