"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015), from its official zip files or the unzipped folders.

Pixels: 105x105 drawings, ink on paper, become 28x28 with ink = 255 on 0 by averaging exactly over area. Each
output pixel covers 105/28 = 15/4 input pixels, so all weights are whole quarters and the average is computed
in whole numbers: it is the same with every version of every library. Pillow's BOX filter rounds its boxes
to whole pixels, and not the same way left and right, so turning a drawing before or after would differ; its
BILINEAR filter looks twice as far and leaves the thin strokes paler. Area averaging commutes exactly with
quarter turns and flips and keeps all the ink.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from harness.data.dataset import SPLITS, ClassTable
from harness.data.image_decoding import open_image
from harness.data.sources import Decoded, Finder, Source, content_digest, split_lines, table_of
from harness.util.atomic_files import read_limited
from harness.util.errors import UserError, first_few

FOLDER = "omniglot-py"
HALVES = ("images_background", "images_evaluation")
DRAWINGS = 20
"""Drawings of each character, one by each of twenty people."""

HELD_OUT_ALPHABETS = 3
"""`omniglot_lake` validates on the last alphabets of the background set in sorted order: Syriac (Estrangelo),
Tagalog and Tifinagh, 95 characters. Whole alphabets, because its test split has new alphabets too."""

_RAW, _SIDE = 105, 28
_MOST_BYTES = 2**20  # of a drawing; they have some hundred
_MEMBER = re.compile(r"(images_(?:background|evaluation))/([^/]+/character\d\d)/(\d{4}_\d\d)\.png")
_ADVICE = (
    "Get images_background.zip and images_evaluation.zip from https://github.com/brendenlake/omniglot (its "
    f"folder python) into <data root>/{FOLDER}, as `torchvision.datasets.Omniglot(root, background, "
    "download=True)` does with background True and then False"
)

Reader = Callable[[str], bytes]


def finder(name: str) -> Finder:
    """How `omniglot` (Vinyals split) or `omniglot_lake` (background/evaluation split) is found."""
    places = tuple(f"{FOLDER}/{half}.zip (or the folder {half} beside it)" for half in HALVES)
    return Finder(1, partial(_find, name), places, _fetch, _ADVICE)


def _find(name: str, root: Path) -> Source | None:
    halves = []
    for half in HALVES:
        zipped, folder = root / FOLDER / f"{half}.zip", root / FOLDER / half
        if zipped.is_file():
            halves.append(zipped)
        elif folder.is_dir():
            halves.append(folder)
        else:
            return None
    files = [(file.relative_to(root).as_posix(), file) for half in halves for file in _files(half)]
    kinds = " and ".join(sorted({"zip files" if half.is_file() else "folders" for half in halves}))
    return Source(f"Omniglot, official {kinds}", content_digest(files), lambda scratch: _decode(name, halves))


def _files(half: Path) -> list[Path]:
    return [half] if half.is_file() else sorted(half.glob("*/character*/*.png"))


def _fetch(folder: Path) -> None:
    from torchvision.datasets import Omniglot

    for half in HALVES:
        Omniglot(str(folder), background=half == HALVES[0], download=True)
        # The zip file is read directly; the 32460 small files it was unpacked to are not needed.
        shutil.rmtree(folder / FOLDER / half)


def _decode(name: str, halves: list[Path]) -> Decoded:
    drawings: dict[str, list[str]] = {}
    source_of: dict[str, Path] = {}
    for half in halves:
        with _opened(half) as (members, _):
            for member in members:
                found = _MEMBER.fullmatch(member)
                if found:
                    drawings.setdefault(found[2], []).append(member)
                    source_of[found[2]] = half
    _check_complete(drawings, source_of, halves)
    # Sorted by class, then by name: the order of files in the source does not matter.
    members = [member for character in sorted(drawings) for member in sorted(drawings[character])]
    number = {member: i for i, member in enumerate(members)}
    images = np.empty((len(members), 1, _SIDE, _SIDE), np.uint8)
    for half in halves:
        with _opened(half) as (inside, read):
            wanted = [member for member in inside if member in number]
            ink = np.stack([_ink(half, member, read) for member in wanted])
        images[[number[member] for member in wanted], 0] = shrunk(ink)
    rows = {c: np.array([number[m] for m in sorted(drawings[c])]) for c in drawings}
    if name == "omniglot":
        tables = _vinyals(rows)
    else:
        tables = _lake(rows, {c for c in rows if source_of[c] == halves[0]})
    return Decoded(images, tuple(members), tables)


@contextmanager
def _opened(half: Path) -> Iterator[tuple[list[str], Reader]]:
    """Names of the drawings of a zip file or folder, and a function that reads one."""
    if half.is_dir():
        base = half.parent
        yield (
            [file.relative_to(base).as_posix() for file in _files(half)],
            lambda name: read_limited(base / name, _MOST_BYTES),
        )
        return
    try:
        archive = ZipFile(half)
    except Exception as error:  # zipfile raises many kinds for broken archives
        raise UserError(f"{half} is not a whole zip file: {error}. Get it again") from error
    with archive:
        yield archive.namelist(), partial(_read, archive)


def _read(archive: ZipFile, member: str) -> bytes:
    # No more is unpacked than the archive says here, whatever the member holds.
    size = archive.getinfo(member).file_size
    if size > _MOST_BYTES:
        raise ValueError(f"it has {size} bytes, where a drawing has some hundred")
    return archive.read(member)


def _check_complete(drawings: dict[str, list[str]], source_of: dict[str, Path], halves: list[Path]) -> None:
    known = {line.rsplit("/", 1)[0] for part in ("train", "val", "test") for line in _split(part)}
    problems = [f"{c} is missing" for c in sorted(known - drawings.keys())]
    problems += [f"{source_of[c]}: {c} is not a character of Omniglot" for c in sorted(drawings.keys() - known)]
    problems += [
        f"{source_of[c]}: {c} has {len(drawings[c])} drawings instead of {DRAWINGS}"
        for c in sorted(drawings)
        if len(drawings[c]) != DRAWINGS
    ]
    if problems:
        where = " and ".join(map(str, halves))
        raise UserError(f"{where} are not the whole of Omniglot: {first_few(problems, 5, '; ')}. Get them again")


def _ink(half: Path, member: str, read: Reader) -> np.ndarray:
    """bool [105, 105] of one drawing, True where there is ink."""
    try:
        with open_image(read(member)) as image:
            if image.size != (_RAW, _RAW):
                raise ValueError(f"it is {image.width}x{image.height}, not {_RAW}x{_RAW}")
            return np.asarray(image.convert("L")) < 128
    except Exception as error:  # Pillow and zipfile raise many kinds for broken files
        where = half.parent / member if half.is_dir() else f"{half}, member {member}"
        raise UserError(f"cannot read the drawing {where}: {error}") from error


def shrunk(ink: np.ndarray) -> np.ndarray:
    """uint8 [N, 28, 28], ink = 255, from bool [N, 105, 105]: the exact average over area, rounded half up."""
    share = 4 * _RAW // _SIDE
    quarters = np.arange(4 * _RAW) // 4
    weights = np.zeros((_SIDE, _RAW), np.float32)
    np.add.at(weights, (np.arange(4 * _RAW) // share, quarters), 1)
    out = np.empty((len(ink), _SIDE, _SIDE), np.uint8)
    for start in range(0, len(ink), 1024):
        # Sums of at most 225 ones: exact in float32 in whatever order they are added.
        sums = (weights @ ink[start : start + 1024].astype(np.float32) @ weights.T).astype(np.int64)
        out[start : start + 1024] = (2 * 255 * sums + share**2) // (2 * share**2)
    return out


def _split(part: str) -> tuple[str, ...]:
    return split_lines(f"omniglot_vinyals_{part}")


def _vinyals(rows: dict[str, np.ndarray]) -> dict[str, ClassTable]:
    tables = {}
    for split, part in zip(SPLITS, ("train", "val", "test"), strict=True):
        lines = _split(part)
        classes = [line.rsplit("/rot", 1) for line in lines]
        tables[split] = table_of(lines, (rows[c] for c, _ in classes), (int(degrees) // 90 for _, degrees in classes))
    return tables


def _lake(rows: dict[str, np.ndarray], background: set[str]) -> dict[str, ClassTable]:
    held_out = sorted({c.split("/")[0] for c in background})[-HELD_OUT_ALPHABETS:]
    validation = {c for c in background if c.split("/")[0] in held_out}
    parts = (background - validation, validation, rows.keys() - background)
    return {
        split: table_of(sorted(part), (rows[c] for c in sorted(part)))
        for split, part in zip(SPLITS, parts, strict=True)
    }
