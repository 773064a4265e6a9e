"""Images and masks of a user's own data set, decoded on a few threads; everything that is wrong is reported at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.data.image_decoding import open_image, threads, unreadable
from harness.data.sources import Decoded, table_of
from harness.data.user.items import Encoded, Grouped, Item, refuse
from harness.data.user.model import OwnData
from harness.util.progress import track

if TYPE_CHECKING:
    from PIL.Image import Image

_BATCH = 256  # encoded images in memory at a time
_CHUNK = 4096


def decoded(data: OwnData, groups: Grouped, where: str, scratch: Path) -> Decoded:
    """Images and masks in the order of splits, classes and items, mapped from files in `scratch`.

    Raises UserError with all images and masks that cannot be used: the first ten in words, the rest counted.
    """
    items = [item for group in groups.values() for members in group.values() for item in members]
    files = scratch / "images", scratch / "masks"
    problems: list[str] = []
    # Written, not assigned to a map of the file: a full disk is then an error and not a dead process.
    with files[0].open("wb") as images, files[1].open("wb") as masks:
        for result in _results(data, items):
            if isinstance(result, list):
                problems += result
            else:
                images.write(result[0].tobytes())
                masks.write(b"" if result[1] is None else result[1].tobytes())
    refuse(data, where, problems)
    shape = data.image_shape
    pixels = np.memmap(files[0], np.uint8, "r", shape=(len(items), *shape))
    planes = np.memmap(files[1], np.uint8, "r", shape=(len(items), 1, *shape[1:])) if data.mask else None
    tables, first = {}, 0
    for split, group in groups.items():
        rows = []
        for members in group.values():
            rows.append(np.arange(first, first + len(members)))
            first += len(members)
        tables[split] = table_of(group, rows)
    mean, std = statistics(pixels, tables["train"].members)
    return Decoded(pixels, tuple(item.id for item in items), tables, planes, mean, std)


def statistics(pixels: np.ndarray, members: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of some images (uint8 [N, C, H, W]), of values in 0..1.

    Rounded to six digits, and the same everywhere: summed as whole numbers. A channel that does not vary has a
    deviation of 1, so that it can be divided by.
    """
    counts = np.zeros((pixels.shape[1], 256), np.int64)
    for first in range(0, len(members), _CHUNK):
        chunk = pixels[members[first : first + _CHUNK]]
        for channel in range(pixels.shape[1]):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    means, deviations = [], []
    for row in counts.tolist():
        total, first_moment = sum(row), sum(value * count for value, count in enumerate(row))
        spread = total * sum(value**2 * count for value, count in enumerate(row)) - first_moment**2
        means.append(round(first_moment / (255 * total), 6))
        deviations.append(round(math.sqrt(spread) / (255 * total), 6) or 1.0)
    return tuple(means), tuple(deviations)


Pair = tuple[np.ndarray, np.ndarray | None]


def _results(data: OwnData, items: list[Item]) -> Iterator[Pair | list[str]]:
    """The pixels of each item, or what is wrong with it."""
    rest, decode = iter(items), partial(pair_of, data.image_shape, data.mask is not None)
    with ThreadPoolExecutor(threads()) as pool, track("decoding", len(items), "images") as task:
        while batch := list(islice(rest, _BATCH)):
            # Got one after another, decoded side by side: readers of tables need not be safe for threads.
            encoded = [item.content() for item in batch]
            yield from pool.map(lambda item, pair: decode(item, *pair), batch, encoded)
            task.advance(len(batch))


def pair_of(shape: tuple[int, int, int], masked: bool, item: Item, image: Encoded, mask: Encoded) -> Pair | list[str]:
    """An image and, if `masked`, its mask, stretched to `shape` (C, H, W); or what is wrong with them."""
    problems = []
    picture = pixels = plane = None
    try:
        picture = _opened(image)
        pixels = _pixels(picture.upright, shape)
    except Exception as error:  # Pillow raises many kinds for broken files
        problems.append(f"{item.called}: {_reason(error)}")
    if masked:
        try:
            plane = _plane(_mask_upright(_opened(mask), picture), picture, shape)
        except Exception as error:
            problems.append(f"{item.mask_called}: {_reason(error)}")
    if problems or pixels is None:
        return problems
    return pixels, plane


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, _Refused) else unreadable(error)


class _Refused(ValueError):
    """An image that can be read and not be used."""


@dataclass(frozen=True)
class _Opened:
    """An image as it is stored and as its camera meant it to be seen, and the EXIF number (1..8) of how that is."""

    stored: Image
    upright: Image
    orientation: int


def _opened(content: Encoded) -> _Opened:
    from PIL import ExifTags, ImageOps

    if content is None:
        raise _Refused("there is no image")
    if isinstance(content, Path) and content.exists() and not content.is_file():
        raise _Refused("it is not a regular file")  # a pipe would be waited for
    with open_image(content) as image:
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return _Opened(image, ImageOps.exif_transpose(image), orientation if orientation in range(2, 9) else 1)


def _mask_upright(mask: _Opened, image: _Opened | None) -> Image:
    """The mask as it lies on the upright image.

    Where EXIF turns only one of the two, their sizes tell whether the mask was drawn on the image as it is stored or as
    it is seen; a square image, or one that is turned upside down, does not tell, and is refused.
    """
    if image is None or mask.orientation == image.orientation:
        return mask.upright
    if mask.orientation == 1 and image.stored.size != image.upright.size:
        if mask.stored.size == image.stored.size:
            return _turned(mask.stored, image.orientation)
        if mask.stored.size == image.upright.size:
            return mask.stored
    raise _Refused(
        f"EXIF turns the image (orientation {image.orientation}) and the mask otherwise ({mask.orientation}), so that "
        "it is not known how one lies on the other; save both without an orientation"
    )


def _turned(image: Image, orientation: int) -> Image:
    """An image of which EXIF says nothing, turned as another one's EXIF orientation says."""
    from PIL import ExifTags, ImageOps

    copy = image.copy()
    copy.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(copy)


def _pixels(image: Image, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 [C, H, W], stretched by Pillow's LANCZOS filter; what is transparent is put on white."""
    from PIL import Image as images

    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        raise _Refused(f"its pixels are no bytes (mode {image.mode}); save it with 8 bits a channel")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        drawn = image.convert("RGBA")
        image = images.alpha_composite(images.new("RGBA", drawn.size, "white"), drawn)
    image = image.convert("RGB" if shape[0] == 3 else "L")
    if image.size != (shape[2], shape[1]):
        image = image.resize((shape[2], shape[1]), images.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels.transpose(2, 0, 1) if shape[0] == 3 else pixels[None]


def _plane(mask: Image, picture: _Opened | None, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 [1, H, W] of 0 and 1 from a mask of 0 and 1 or of 0 and 255; `picture` is its image, if that is known."""
    from PIL import Image as images

    if picture is not None and mask.size != picture.upright.size:
        width, height = picture.upright.size
        raise _Refused(f"the mask is {mask.width}x{mask.height}, but its image is {width}x{height}")
    values = _values(mask)
    found = np.unique(values).tolist()
    if not (set(found) <= {0, 1} or set(found) <= {0, 255}):
        shown = ", ".join(map(str, found[:8])) + (f", ... ({len(found)} in all)" if len(found) > 8 else "")
        raise _Refused(f"the mask is not binary: its values are {shown} (allowed: 0 and 1, or 0 and 255)")
    if not values.any():
        raise _Refused("the mask marks no pixel as object")
    plane = np.asarray(
        images.fromarray((values > 0).astype(np.uint8)).resize((shape[2], shape[1]), images.Resampling.NEAREST)
    )
    if not plane.any():
        raise _Refused(f"the mask marks so few pixels as object that none is left at {shape[1]}x{shape[2]}")
    return plane[None]


def _values(mask: Image) -> np.ndarray:
    """The values of a mask [H, W]: grey levels, or the numbers of a palette that has colours."""
    if mask.mode in {"1", "L", "I", "F"} or mask.mode.startswith("I;"):
        return np.asarray(mask)
    colours = np.asarray(mask.convert("RGBA"))
    if (colours[..., 3] != 255).any():
        raise _Refused("the mask is transparent in places; save it as black and white")
    if (colours[..., :3] == colours[..., :1]).all():
        return colours[..., 0]
    if mask.mode == "P":
        return np.asarray(mask)
    raise _Refused("the mask has colours; save it as black and white")
