"""Made-up images in the layout of CIFAR on the hub."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.data.real.cifar import CIFAR100, Archive

PER_CLASS = 3


def made(archive: Archive = CIFAR100) -> tuple[np.ndarray, np.ndarray]:
    """Made-up images [3 x classes, 32, 32, 3] and labels; the first and second image of class 7 are identical."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (len(archive.names) * PER_CLASS, 32, 32, 3), np.uint8)
    labels = np.repeat(np.arange(len(archive.names)), PER_CLASS)
    images[7 * PER_CLASS] = images[7 * PER_CLASS + 1]
    return images, labels


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def parquet(root: Path, seed: int = 0, shards: int = 2, archive: Archive = CIFAR100, **changes: Any) -> Path:
    """A root with the Parquet layout: two images of a class to train, one to test, rows shuffled."""
    import datasets

    images, labels = made(archive)
    encoded: list[Any] = [{"bytes": png(image), "path": f"{row}.png"} for row, image in enumerate(images)]
    for row, content in changes.get("replaced", {}).items():
        encoded[row] = None if content is None else {"bytes": content, "path": f"{row}.png"}
    classes: list[int | None] = [
        changes.get("labelled", {}).get(row, label) for row, label in enumerate(labels.tolist())
    ]
    where = root / archive.parquet
    where.mkdir(parents=True)
    chosen = np.array([row for row in range(len(images)) if row not in changes.get("left_out", ())])
    order = np.random.default_rng(seed).permutation(chosen)
    train = order[order % PER_CLASS != 2]
    parts = [("train", part) for part in np.array_split(train, shards)] + [("test", order[order % PER_CLASS == 2])]
    for number, (split, rows) in enumerate(parts):
        table = datasets.Dataset.from_dict(
            {"img": [encoded[row] for row in rows], archive.label: [classes[row] for row in rows]},
            features=datasets.Features(
                {
                    "img": datasets.Image(),
                    archive.label: datasets.ClassLabel(names=changes.get("names", archive.names)),
                }
            ),
        )
        table.remove_columns(changes.get("without", [])).to_parquet(where / f"{split}-{number:05d}.parquet")
    return root
