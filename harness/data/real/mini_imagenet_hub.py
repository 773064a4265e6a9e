"""mini-ImageNet from the Hugging Face hub, written down in the Parquet layout that `mini_imagenet` reads.

No repository known to us states both the split of Ravi and Larochelle and the names of its classes.
`timm/mini-imagenet` has their 100 classes, named by WordNet ids, 500 images of each in its split 'train' and 100 in
'validation' (its split 'test' are others, of ImageNet's validation set), at their original size. Both are taken
together and the classes divided by the lists. Its author could not trace who chose the images, so they need not be
those of Ravi and Larochelle: another fingerprint than theirs, and rows that boards keep apart.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.data import image_decoding
from harness.data.cards import Card
from harness.util.errors import UserError, first_few

LOG = logging.getLogger(__name__)

REPOSITORY, REVISION = "timm/mini-imagenet", "bd8779f9d33c061ea6e75fdd3bce4e43dd679060"
PARTS = ("train", "validation")

_BATCH = 2000  # rows written at a time

Row = tuple[str, str | None, bytes | None]
"""Class name, file name and encoded image."""


def fetch(card: Card, lists: dict[str, tuple[str, ...]], folder: Path) -> None:
    """Makes `folder` with `<split>-00000-of-00001.parquet`, the images resized to the card's and stored without loss.

    `lists` are the classes of each split. Raises UserError where the repository lacks a class or an image, and what
    the `datasets` library raises where it cannot be reached.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    LOG.info(f"reading 7.4 GB of {REPOSITORY} from the hub (terms of ImageNet)")
    split_of = {name: split for split, names in lists.items() for name in names}
    counts: Counter[str] = Counter()
    folder.mkdir()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(image_decoding.threads()))
        writers = {}
        for split, names in lists.items():
            features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(names)))
            file = folder / f"{split}-00000-of-00001.parquet"
            writers[split] = stack.enter_context(pq.ParquetWriter(file, features.arrow_schema))
        for batch in image_decoding.batches(_rows(split_of), _BATCH):
            images = list(pool.map(lambda row: _small(row, card.image_shape), batch))
            for split, writer in writers.items():
                chosen = [
                    {"image": {"bytes": image, "path": path}, "label": lists[split].index(name)}
                    for (name, path, _), image in zip(batch, images, strict=True)
                    if split_of[name] == split
                ]
                writer.write_table(pa.Table.from_pylist(chosen, schema=writer.schema))
            counts.update(name for name, _, _ in batch)
    wrong = [
        f"class {name} has {counts[name]} images instead of {card.images_per_class[split]}"
        for name, split in split_of.items()
        if counts[name] != card.images_per_class[split]
    ]
    if wrong:
        raise UserError(f"{REPOSITORY} is not what is needed:\n{image_decoding.listed(wrong)}")


def _rows(wanted: dict[str, str]) -> Iterator[Row]:
    """All rows of the wanted classes, one after another as they arrive."""
    import datasets

    for part in PARTS:
        stream: Any = datasets.load_dataset(REPOSITORY, revision=REVISION, split=part, streaming=True)
        names = getattr((stream.features or {}).get("label"), "names", None) or []
        absent = [name for name in wanted if name not in names]
        if absent:
            raise UserError(f"{REPOSITORY}, {part}: no class is named {first_few(absent, 5)}")
        for row in stream.cast_column("image", datasets.Image(decode=False)):
            if names[row["label"]] in wanted:
                yield names[row["label"]], row["image"]["path"], row["image"]["bytes"]


def _small(row: Row, shape: tuple[int, int, int]) -> bytes:
    from PIL import Image

    name, path, content = row
    try:
        image = image_decoding.pixels(content or b"", shape, stretch=True)
    except Exception as error:  # Pillow raises many kinds for broken files
        raise UserError(f"{REPOSITORY}: cannot read the image {path or 'without a name'} of {name}: {error}") from error
    out = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0).copy()).save(out, "PNG")
    return out.getvalue()
