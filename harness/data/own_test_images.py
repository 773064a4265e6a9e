"""A data set whose test split has the images of a file of episodes; and images encoded for such a file."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from harness.data import cache as cached
from harness.data.cards import Card
from harness.data.dataset import ClassTable, Dataset
from harness.data.image_decoding import batches, listed, open_image, threads, unreadable
from harness.data.sources import Decoded, Source, table_of
from harness.data.user.items import Encoded, Item
from harness.data.user.pixels import pair_of
from harness.util.errors import UserError
from harness.util.progress import track

VERSION = 1
"""Raised when the same images come to be decoded differently."""

_BATCH = 256  # encoded images in memory at a time
_DRAWING = (105, 105)  # a drawing of Omniglot as it was published


def with_test_images(
    dataset: Dataset,
    items: Sequence[tuple[Item, int]],
    classes: Mapping[str, Sequence[int]],
    digest: str,
    cache: Path,
    rehash: bool = False,
) -> Dataset:
    """The data set with other images in place of those of its test split, decoded once into the cache.

    `items` are the images, each with the quarter turns by which it is turned; `classes` the numbers of those of each
    class among them; `digest` is a hash of their content. They are brought to the size and channels of the data set as
    a user's own images are; where its pixels are ink (Omniglot), a drawing of 105x105 as Omniglot's own are, and one of
    its very size as dark ink on white paper. Their numbers are the last in the data set. Raises UserError with all that
    cannot be used.
    """
    named = {name: list(each) for name, each in classes.items()}
    content = hashlib.sha256(json.dumps([dataset.fingerprint, digest, named]).encode()).hexdigest()
    card = replace(dataset.card, name=f"{dataset.name}_with_test_images")
    decode = partial(_joined, dataset, items, classes)
    source = Source(f"{dataset.source}, with test images from a file", content, decode)
    return replace(cached.load(card, VERSION, source, cache, rehash), card=_card(dataset.card, classes))


def _card(card: Card, classes: Mapping[str, Sequence[int]]) -> Card:
    fewest = min(len(set(each)) for each in classes.values())
    return replace(
        card, classes={**card.classes, "test": len(classes)}, images_per_class={**card.images_per_class, "test": fewest}
    )


def encoded(card: Card, pixels: np.ndarray) -> bytes:
    """Pixels of a data set, uint8 [C, H, W], as a PNG file that `with_test_images` decodes to the very same."""
    from PIL import Image

    values = 255 - pixels if card.ink else pixels
    image = Image.fromarray(np.ascontiguousarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0)))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def encoded_mask(plane: np.ndarray) -> bytes:
    """A mask of 0 and 1, uint8 [1, H, W], as a PNG file of 0 and 255."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane[0] * 255)).save(file, "PNG")
    return file.getvalue()


def _joined(
    dataset: Dataset, items: Sequence[tuple[Item, int]], classes: Mapping[str, Sequence[int]], scratch: Path
) -> Decoded:
    """The images of the other splits, in their order, then those of the file."""
    others = {split: table for split, table in dataset.tables.items() if split != "test"}
    kept = np.unique(np.concatenate([table.members for table in others.values()]))
    files = scratch / "images", scratch / "masks"
    # Written, not assigned to a map of the file: a full disk is then an error and not a dead process.
    with files[0].open("wb") as images, files[1].open("wb") as masks:
        for some in np.array_split(kept, -(-len(kept) // _BATCH)):
            images.write(dataset.images[some].tobytes())
            masks.write(b"" if dataset.masks is None else dataset.masks[some].tobytes())
        _write(dataset.card, items, dataset.masks is not None, images, masks)
    count, shape = len(kept) + len(items), dataset.card.image_shape
    tables: dict[str, ClassTable] = {
        split: replace(table, members=np.searchsorted(kept, table.members).astype(np.int32), fixed=None)
        for split, table in others.items()
    }
    tables["test"] = table_of(classes, [len(kept) + np.unique(each) for each in classes.values()])
    return Decoded(
        np.memmap(files[0], np.uint8, "r", shape=(count, *shape)),
        (*(dataset.image_ids[number] for number in kept), *(item.id for item, _ in items)),
        tables,
        None if dataset.masks is None else np.memmap(files[1], np.uint8, "r", shape=(count, 1, *shape[1:])),
    )


def _write(card: Card, items: Sequence[tuple[Item, int]], masked: bool, images: BinaryIO, masks: BinaryIO) -> None:
    problems: list[str] = []
    decode = partial(drawing, card) if card.ink else partial(pair_of, card.image_shape, masked)
    with ThreadPoolExecutor(threads()) as pool, track("decoding", len(items), "images") as task:
        for batch in batches(items, _BATCH):
            contents = [item.content() for item, _ in batch]
            found = pool.map(lambda pair, content: decode(pair[0], *content), batch, contents)
            for (item, turns), result in zip(batch, found, strict=True):
                if turns % 2 and card.image_shape[1] != card.image_shape[2]:
                    height, width = card.image_shape[1:]
                    result = [f"{item.called}: images of {width}x{height} cannot be turned by {turns} quarter turns"]
                if isinstance(result, list):
                    problems += result
                    continue
                pixels, plane = result
                images.write(np.rot90(pixels, turns, (-2, -1)).tobytes())
                masks.write(b"" if plane is None else np.rot90(plane, turns, (-2, -1)).tobytes())
            task.advance(len(batch))
    if problems:
        raise UserError(f"images of the episodes cannot be used:\n{listed(problems)}")


def drawing(card: Card, item: Item, image: Encoded, mask: Encoded) -> tuple[np.ndarray, None] | list[str]:
    """uint8 [1, H, W], ink = 255, of a drawing; or what is wrong with it."""
    from harness.data.real.omniglot import shrunk

    size = (card.image_shape[2], card.image_shape[1])
    try:
        assert image is not None
        with open_image(image) as picture:
            grey = np.asarray(picture.convert("L"))
            if picture.size == size:
                return 255 - grey[None], None
            if picture.size == _DRAWING:
                return shrunk(grey[None] < 128), None
            width, height = picture.size
    except Exception as error:  # Pillow raises many kinds for broken files
        return [f"{item.called}: {unreadable(error)}"]
    wanted = " or ".join(f"{w}x{h}" for w, h in (_DRAWING, size))
    return [f"{item.called}: it is {width}x{height}; a drawing for {card.name} is {wanted}, dark ink on white"]
