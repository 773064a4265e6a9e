"""Decoding many encoded images on a few threads, into a file, with everything that is wrong reported at once."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from harness.util.errors import UserError
from harness.util.progress import track
from harness.util.text import without_addresses

if TYPE_CHECKING:
    from PIL import Image

NAMED = 10
"""Problems that are shown in words; the others are counted."""

_LINE = 1000  # characters of a problem that are shown

T = TypeVar("T")

_BATCH = 512  # encoded images in memory at a time
_PART = 16

_FORMATS = ((b"RIFF", "WEBP"), (b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"))
"""First bytes of the formats that most data sets are in: Pillow tries a dozen others before WebP, which takes as long
as to decode a small image."""


@dataclass(frozen=True)
class Picture:
    """An encoded image: its `number` in the array, what messages call it, and its bytes or the file they are in."""

    number: int
    called: str
    content: bytes | Path | None


def decoded(
    pictures: Iterable[Picture], count: int, shape: tuple[int, int, int], file: Path, stretch: bool
) -> np.ndarray:
    """Images uint8 [count, *shape], mapped from `file`, which is written; shape is (3, height, width).

    With `stretch` images of another size are resized to the shape (see `pixels`), else they are refused. Raises
    UserError with all images that cannot be used: the first ten in words, the rest counted.
    """
    problems: list[str] = []
    # Written, not assigned to a map of the file: a full disk is then an error and not a dead process.
    with file.open("wb") as out, ThreadPoolExecutor(threads()) as pool, track("decoding", count, "images") as task:
        size = int(np.prod(shape))
        for batch in batches(pictures, _BATCH):
            parts = pool.map(lambda part: [_decode_or_error(each, shape, stretch) for each in part], _parts(batch))
            for picture, image in zip(batch, chain.from_iterable(parts), strict=True):
                if isinstance(image, str):
                    problems.append(image)
                elif not problems:
                    out.seek(picture.number * size)
                    out.write(image.tobytes())
            task.advance(len(batch))
    if problems:
        raise UserError(f"images that cannot be used:\n{listed(problems)}")
    return np.memmap(file, np.uint8, "r", shape=(count, *shape))


def _parts(batch: list[Picture]) -> Iterator[list[Picture]]:
    """What a thread decodes in one go: to hand small images over one by one takes as long as to decode them."""
    return batches(batch, _PART)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def threads() -> int:
    """Threads to work with: those that OMP_NUM_THREADS allows, but no more than processors this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(limit), usable) if re.fullmatch("[0-9]{1,9}", limit) and int(limit) > 0 else usable


def listed(problems: Sequence[str]) -> str:
    """The problems, indented, one a line: the first ten, and how many more there are; very long ones are cut."""
    lines = [f"  {problem}" if len(problem) <= _LINE else f"  {problem[:_LINE]} ..." for problem in problems[:NAMED]]
    return "\n".join([*lines, f"  and {len(problems) - NAMED} more"] if len(problems) > NAMED else lines)


def open_image(content: bytes | Path) -> Image.Image:
    """An image whose pixels are not decoded yet.

    Raises what Pillow raises for broken ones; and for those of more than 89 million pixels, of which it only warns by
    default: a file of some kilobytes can stand for gigabytes.
    """
    from PIL import Image

    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    if not isinstance(content, bytes):
        return Image.open(content)
    formats = [name for start, name in _FORMATS if content.startswith(start)]
    return Image.open(io.BytesIO(content), formats=formats or None)


def pixels(content: bytes | Path, shape: tuple[int, int, int], stretch: bool) -> np.ndarray:
    """The image in colour (grey ones with three equal channels), uint8 of `shape` (3, height, width).

    With `stretch` an image of another size is resized by Pillow's LANCZOS filter, which looks at every pixel that an
    output pixel covers, without keeping the aspect. Raises whatever Pillow raises for broken images, and ValueError
    for one of another size without `stretch`.
    """
    from PIL import Image

    size = (shape[2], shape[1])
    with open_image(content) as image:
        if image.size != size and not stretch:
            raise ValueError(f"it is {image.width}x{image.height}, not {size[0]}x{size[1]}")
        colour = image.convert("RGB")
    if colour.size != size:
        colour = colour.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(colour).transpose(2, 0, 1)


def unreadable(error: Exception) -> str:
    """What Pillow says of an image that it cannot read, without the place, which is named already."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "cannot be read as an image: its format is not known, or it is damaged"
    if type(error).__name__.startswith("DecompressionBomb"):
        return "has more pixels than are decoded (89 million); save it smaller"
    return f"cannot be read as an image: {without_addresses(error)}"


def _decode_or_error(picture: Picture, shape: tuple[int, int, int], stretch: bool) -> np.ndarray | str:
    """The pixels, or in words why there are none."""
    if picture.content is None:
        return f"{picture.called}: there is no image"
    try:
        return pixels(picture.content, shape, stretch)
    except Exception as error:  # Pillow raises many kinds for broken files
        return f"{picture.called}: {unreadable(error)}"
