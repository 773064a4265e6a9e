"""FSS-1000 (Li, Wei, Chen, Tai and Tang, CVPR 2020): 1000 classes of ten images with the mask of their object.

The official layout is one folder a class, with `<n>.jpg` and `<n>.png` (the mask) for n = 1..10. The test
classes are the official list of 240; the authors left the division of the others open, and the 520/240 used
here is the one of HSNet (Min, Kang and Cho, ICCV 2021), which those who came later took over.

What the published files need, as users of them reported (issues 8, 23 and 25 of HKUSTCV/FSS-1000):

- Two masks are unusable, `LEFT_OUT`; their pairs are left out, so that two test classes have nine images.
- Six images and their masks have another size than 224x224. Where an image and its mask agree in size both are
  resized, not keeping the aspect (the image as `harness.data.image_decoding` does it, the mask to the nearest pixel);
  where they do not agree it is an error.
- Masks have soft edges: 0, 255 and a fringe of greys. A pixel is on the object from 128 on. A mask with many
  greys elsewhere than along its outline, or with colours, is no mask of one object, and an error.
- Folders hold a few spare files (`10.jpeg` beside `10.jpg`): what is not a numbered pair is skipped and counted.

Images are ordered by class name, then by number. Their pixels are what Pillow makes of the JPEG files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.data.dataset import SPLITS
from harness.data.image_decoding import NAMED, batches, listed, open_image, pixels, threads
from harness.data.sources import Decoded, Finder, Source, content_digest, split_lines, table_of
from harness.util.errors import UserError, first_few

LOG = logging.getLogger(__name__)

FOLDERS = ("fss1000", "fewshot_data/fewshot_data", "fewshot_data")
"""Where the class folders are looked for: under this project's name, or as the official archive unpacks."""

LEFT_OUT = ("bamboo_slip/7", "peregine_falcon/8")
"""Pairs whose published mask is unusable: one was reported as not binary, the other is a photograph."""

IMAGES, SIDE = 10, 224

_HALF = 128
_GREY = 16  # a value this near to 0 or 255 counts as black or white
_FRINGE = 2  # how far from the outline greys may lie, in pixels
_MOST_GREY, _MOST_COLOURED = 0.05, 0.01  # shares of the pixels of a mask
_BATCH = 256  # pairs in memory at a time
_ADVICE = (
    "Get the archive fewshot_data.zip from the Google Drive folder that https://github.com/HKUSTCV/FSS-1000 "
    f"links to, and unpack it so that <data root>/{FOLDERS[0]}/<class>/ holds 1.jpg, 1.png, ..., 10.jpg, 10.png "
    "for each of the 1000 classes"
)


@dataclass
class _Findings:
    """What was met on the way: errors to be raised together, and what is told but does no harm."""

    errors: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Pair:
    image: np.ndarray  # uint8 [3, 224, 224]
    mask: np.ndarray  # uint8 [1, 224, 224], 1 on the object
    size: tuple[int, int]  # width and height of the files


def finder() -> Finder:
    """How the class folders of FSS-1000 are found."""
    return Finder(1, _find, tuple(f"{folder}/<class>/<n>.jpg and <n>.png" for folder in FOLDERS), _fetch, _ADVICE)


def _find(root: Path) -> Source | None:
    names = sorted(name for part in _lists().values() for name in part)
    # An archive is often unpacked into a folder of its own name; the first place with a class is taken.
    found = next((root / folder for folder in FOLDERS if any((root / folder / name).is_dir() for name in names)), None)
    where = found or root / FOLDERS[0]
    if not where.is_dir():
        return None
    files = [(f"{pair}{end}", where / f"{pair}{end}") for pair in _pairs(names) for end in (".jpg", ".png")]
    digest = content_digest((name, file) for name, file in files if file.is_file())
    return Source("FSS-1000, class folders", digest, lambda scratch: _decode(where, names, scratch))


def _fetch(folder: Path) -> None:
    raise UserError("FSS-1000 is published as a Google Drive folder only, which has to be fetched by hand")


def _lists() -> dict[str, tuple[str, ...]]:
    return {split: split_lines(f"fss1000_{part}") for split, part in zip(SPLITS, ("train", "val", "test"), strict=True)}


def _pairs(names: Iterable[str]) -> list[str]:
    """All pairs of some classes, as '<class>/<n>', without those left out."""
    every = (f"{name}/{number}" for name in names for number in range(1, IMAGES + 1))
    return [pair for pair in every if pair not in LEFT_OUT]


def _decode(where: Path, names: list[str], scratch: Path) -> Decoded:
    """Images [9998, 3, 224, 224] and masks [9998, 1, 224, 224], mapped from files in `scratch`.

    Raises UserError with everything that is wrong: the first ten findings in words, the rest counted.
    """
    findings = _Findings()
    pairs = _pairs(_classes(where, names, findings))
    files = scratch / "images", scratch / "masks"
    # Written, not assigned to maps of the files: a full disk is then an error and not a dead process.
    with files[0].open("wb") as images, files[1].open("wb") as masks, ThreadPoolExecutor(threads()) as pool:
        for batch in batches(pairs, _BATCH):
            for name, pair in zip(batch, pool.map(lambda name: _decode_or_error(where / name), batch), strict=True):
                if isinstance(pair, str):
                    findings.errors.append(pair)
                    continue
                if pair.size != (SIDE, SIDE):
                    findings.resized.append(f"{name} from {_size(pair.size)}")
                if not findings.errors:
                    images.write(pair.image.tobytes())
                    masks.write(pair.mask.tobytes())
    _tell(findings, [pair for pair in LEFT_OUT if (where / f"{pair}.png").exists()])
    if findings.errors:
        raise UserError(
            f"{where} cannot be used as FSS-1000, and nothing of it was kept:\n{listed(findings.errors)}\n{_ADVICE}."
        )
    mapped = [np.memmap(files[i], np.uint8, "r", shape=(len(pairs), (3, 1)[i], SIDE, SIDE)) for i in range(2)]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(pairs):
        rows.setdefault(name.split("/")[0], []).append(row)
    tables = {split: table_of(part, (np.array(rows[name]) for name in part)) for split, part in _lists().items()}
    return Decoded(mapped[0], tuple(pairs), tables, mapped[1])


def _classes(where: Path, names: list[str], findings: _Findings) -> list[str]:
    """The classes that have a folder; what is absent, and what else lies there, goes into the findings."""
    absent = [name for name in names if not (where / name).is_dir()]
    if absent:
        findings.errors.append(f"{where}: {_some(absent)} of {len(names)} class folders are absent")
    known = set(names)
    for entry in _entries(where):
        if entry.name not in known or not entry.is_dir():
            (findings.unlisted if entry.is_dir() else findings.stray).append(entry.name)
    present = [name for name in names if name not in absent]
    for name in present:
        wanted = {f"{number}{end}" for number in range(1, IMAGES + 1) for end in (".jpg", ".png")}
        findings.stray += [f"{name}/{entry.name}" for entry in _entries(where / name) if entry.name not in wanted]
    return present


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def _decode_or_error(stem: Path) -> _Pair | str:
    """The pair, or in words why it cannot be used."""
    image, mask = (stem.parent / f"{stem.name}{end}" for end in (".jpg", ".png"))
    absent = [str(file) for file in (image, mask) if not file.is_file()]
    if absent:
        return f"{' and '.join(absent)}: missing"
    try:
        return _pair(image, mask)
    except ValueError as error:
        return str(error)


def _pair(image: Path, mask: Path) -> _Pair:
    """Raises ValueError naming the file where either is broken."""
    raw = _opened(mask)
    size = (raw.shape[1], raw.shape[0])
    try:
        colours = pixels(image, (3, SIDE, SIDE), stretch=True)
        real = _size_of(image)
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ValueError(f"{image}: cannot read the image: {error}") from error
    if real != size:
        raise ValueError(f"{mask}: the mask is {_size(size)}, but its image is {_size(real)}")
    plane = _binary(mask, raw)
    if size != (SIDE, SIDE):
        plane = _resized(plane)
    if not plane.any():
        raise ValueError(f"{mask}: the mask marks no pixel as object; its values are {_values(raw)}")
    return _Pair(colours, plane[None], size)


def _opened(file: Path) -> np.ndarray:
    """The pixels of a mask, uint8 [H, W, 3]."""
    try:
        with open_image(file) as image:
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ValueError(f"{file}: cannot read the mask: {error}") from error


def _size_of(file: Path) -> tuple[int, int]:
    with open_image(file) as image:
        return image.size


def _binary(file: Path, raw: np.ndarray) -> np.ndarray:
    """uint8 [H, W], 1 on the object, from mask pixels [H, W, 3]; masks of 0 and 1 are taken as they are."""
    channels = raw.astype(np.int16)
    grey = channels.sum(axis=2) // 3
    coloured = channels.max(axis=2) - channels.min(axis=2) > _GREY
    if coloured.mean() > _MOST_COLOURED:
        raise ValueError(f"{file}: not a mask of one object, {coloured.mean():.0%} of its pixels are coloured")
    if grey.max() <= 1:
        return grey.astype(np.uint8)
    mask = grey >= _HALF
    between = (grey > _GREY) & (grey < 255 - _GREY)
    if between.mean() > _MOST_GREY:  # seldom, and only then is it worth while to look where they are
        between &= ~_near_outline(mask)
    if between.mean() > _MOST_GREY:
        raise ValueError(
            f"{file}: the mask is not binary, {between.mean():.0%} of its pixels are neither black nor white nor at "
            f"the outline; its values are {_values(raw)}"
        )
    return mask.astype(np.uint8)


def _near_outline(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: within `_FRINGE` pixels (rows and columns) there are both object and ground."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(mask, _FRINGE, mode="edge"), (2 * _FRINGE + 1,) * 2)
    return np.asarray(around.any(axis=(2, 3)) & ~around.all(axis=(2, 3)))


def _resized(plane: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(plane).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _values(raw: np.ndarray) -> str:
    values = np.unique(raw)
    return (
        ", ".join(map(str, values)) if len(values) <= 5 else f"{len(values)} different ones, {values[0]}..{values[-1]}"
    )


def _tell(findings: _Findings, left_out: Sequence[str]) -> None:
    """Says on stderr what was skipped, left out or changed."""
    for names, what in (
        (findings.unlisted, "skipped folders that are in no class list"),
        (findings.stray, "skipped files that are no numbered image or mask"),
        (left_out, "left out pairs whose published mask is unusable"),
        (findings.resized, f"resized to {SIDE}x{SIDE}"),
    ):
        if names:
            LOG.warning(f"fss1000: {what}: {_some(names)}")


def _some(names: Sequence[str]) -> str:
    """How many, and the first of them by name: '12 (a, b, ... and 2 more)'."""
    return f"{len(names)} ({first_few(names, NAMED)})"
