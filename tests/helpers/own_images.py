"""Small data sets of somebody's own, made with Pillow, and the protocols on them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.data.user.model import OwnData
from harness.util.errors import UserError

BIRDS = ("crow", "jay", "kite", "lark", "owl", "robin", "rook", "tit", "wren")
LISTS = {"train": ["robin", "wren", "kite"], "validation": ["owl", "rook", "crow"], "test": ["jay", "tit", "lark"]}
MASK = {"mask": "{stem}_mask.png"}


def picture(number: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    """Image `number`: width x height of `size`, with pixels of its own."""
    random = np.random.default_rng(number)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))


def object_mask(number: int, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    """bool [height, width] with some object and some ground."""
    mask = np.random.default_rng(1000 + number).random((size[1], size[0])) < 0.5
    mask[0, 0], mask[-1, -1] = True, False
    return mask


def image_folder(where: Path, classes: Sequence[str] = BIRDS, images: int = 4, masks: bool = False) -> Path:
    """Class folders of `images` PNG images each; with `masks`, <name>_mask.png beside each."""
    for row, name in enumerate(classes):
        (where / name).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            picture(100 * row + i).save(where / name / f"{i}.png")
            if masks:
                Image.fromarray(object_mask(100 * row + i)).save(where / name / f"{i}_mask.png")
    return where


def encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def model(**changes: Any) -> OwnData:
    """The birds as a folder `birds`, with changes; None takes a key away."""
    data = {"name": "garden_birds", "folder": "birds", "size": 8, "classes": LISTS, **changes}
    return OwnData.model_validate({key: value for key, value in data.items() if value is not None})


def loaded(data: OwnData, base: Path, root: Path | None = None) -> Dataset:
    return load_dataset(data, root, base / "cache", base=base)


def left_in_cache(base: Path) -> list[str]:
    return sorted(each.name for each in (base / "cache").glob("*") if each.suffix != ".lock")


def protocol_text(**changes: Any) -> str:
    """An online protocol on the birds, as YAML, with changes at the top; None takes a key away."""
    data: dict[str, Any] = {
        "kind": "online_few_shot",
        "title": "Birds of my garden",
        "dataset": {"name": "garden_birds", "folder": "birds", "size": 8, "classes": LISTS},
        "episode": {"ways": 3, "presentations": 4},
        "scoring": {"shots": [1, 3], "test_episodes": 6},
        **changes,
    }
    return yaml.safe_dump({key: value for key, value in data.items() if value is not None}, sort_keys=False)


def refusal(own: OwnData, base: Path) -> str:
    """What is said of data that cannot be used, of which nothing may be kept."""
    with pytest.raises(UserError) as caught:
        loaded(own, base)
    assert left_in_cache(base) == []
    return str(caught.value)


def refused(base: Path, **changes: Any) -> str:
    """What is said of the folder of birds, with changes of what its protocol says."""
    return refusal(model(**changes), base)
