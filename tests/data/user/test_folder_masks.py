"""Masks of a user's image folder: where they lie, how they are read, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.own_images import (
    BIRDS,
    MASK,
    image_folder,
    loaded,
    model,
    object_mask,
    picture,
    refused,
)


def masked(where: Path, mask: Image.Image, size: tuple[int, int] = (8, 8)) -> None:
    """The birds with masks; the first training class has one image of `size` with this mask."""
    image_folder(where, masks=True)
    shutil.rmtree(where / "kite")
    (where / "kite").mkdir()
    picture(0, size).save(where / "kite" / "0.png")
    mask.save(where / "kite" / "0_mask.png")


def test_masks_lie_beside_their_images_and_are_no_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_folder(tmp_path / "birds", masks=True)
    data = loaded(model(size=[10, 12], **MASK), tmp_path)
    assert (data.card.masks, len(data.images)) == (True, 36)
    assert data.masks is not None
    for number, name in enumerate(data.image_ids):
        bird, i = name.removesuffix(".png").split("/")
        np.testing.assert_array_equal(data.masks[number, 0], object_mask(100 * BIRDS.index(bird) + int(i)))
    assert "no images" not in capsys.readouterr().err
    assert loaded(model(size=[10, 12]), tmp_path).card.masks is False


@pytest.mark.parametrize("pattern", ["outlines/{stem}.png", "../../masks/{class}/{stem}.png"])
def test_masks_may_lie_in_folders_of_their_own(
    tmp_path: Path, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder(tmp_path / "birds")
    for row, name in enumerate(BIRDS):
        for i in range(4):
            place = tmp_path / "birds" / name / pattern.replace("{class}", name).replace("{stem}", str(i))
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(object_mask(100 * row + i)).save(place)
    data = loaded(model(size=[10, 12], mask=pattern), tmp_path)
    assert data.masks is not None
    np.testing.assert_array_equal(data.masks[0, 0], object_mask(100 * BIRDS.index("kite")))
    assert "skipped" not in capsys.readouterr().err


def palette_mask(colours: list[int]) -> Image.Image:
    image = Image.fromarray(object_mask(0, (8, 8)).astype(np.uint8)).convert("P")
    image.putdata(object_mask(0, (8, 8)).astype(int).ravel().tolist())
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "mask",
    [
        Image.fromarray(object_mask(0, (8, 8))),
        Image.fromarray(object_mask(0, (8, 8)).astype(np.uint8)),
        Image.fromarray(object_mask(0, (8, 8)).astype(np.uint8) * 255),
        Image.fromarray(object_mask(0, (8, 8)).astype(np.uint8) * 255).convert("RGB"),
        Image.fromarray(object_mask(0, (8, 8)).astype(np.uint8) * 255).convert("RGBA"),
        palette_mask([0, 0, 0, 128, 0, 0]),
        palette_mask([0, 0, 0, 255, 255, 255]),
    ],
    ids=["bool", "0 and 1", "0 and 255", "RGB", "RGBA", "colours of a palette", "black and white of a palette"],
)
def test_masks_of_0_and_1_or_255_are_read(tmp_path: Path, mask: Image.Image) -> None:
    masked(tmp_path / "birds", mask)
    data = loaded(model(**MASK), tmp_path)
    assert data.masks is not None
    np.testing.assert_array_equal(data.masks[0, 0], object_mask(0, (8, 8)))


def test_masks_are_resized_to_the_nearest_pixel(tmp_path: Path) -> None:
    masked(tmp_path / "birds", Image.fromarray(object_mask(0, (16, 16))), (16, 16))
    data = loaded(model(**MASK), tmp_path)
    assert data.masks is not None
    assert set(np.unique(data.masks).tolist()) == {0, 1}
    wanted = Image.fromarray(object_mask(0, (16, 16)).astype(np.uint8)).resize((8, 8), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(data.masks[0, 0], wanted)


GRAY = object_mask(0, (8, 8)).astype(np.uint8) * 200


SEVERAL = np.arange(64, dtype=np.uint8).reshape(8, 8)


RED = np.stack([GRAY, GRAY * 0, GRAY * 0], axis=-1)


CLEAR = np.stack([GRAY, GRAY, GRAY, GRAY], axis=-1)


SPECK = np.zeros((64, 64), np.uint8)
SPECK[1, 1] = 1


@pytest.mark.parametrize(
    ("mask", "size", "said"),
    [
        (np.ones((8, 9), bool), (8, 8), "the mask is 9x8, but its image is 8x8"),
        (GRAY, (8, 8), "the mask is not binary: its values are 0, 200 (allowed: 0 and 1, or 0 and 255)"),
        (SEVERAL, (8, 8), "its values are 0, 1, 2, 3, 4, 5, 6, 7, ... (64 in all)"),
        (RED, (8, 8), "the mask has colours; save it as black and white"),
        (CLEAR, (8, 8), "the mask is transparent in places"),
        (np.zeros((8, 8), bool), (8, 8), "the mask marks no pixel as object"),
        (SPECK, (64, 64), "the mask marks so few pixels as object that none is left at 8x8"),
    ],
    ids=["size", "gray", "many values", "colours", "transparent", "empty", "nothing left"],
)
def test_a_mask_that_is_none_is_refused_with_its_path(
    tmp_path: Path, mask: np.ndarray, size: tuple[int, int], said: str
) -> None:
    masked(tmp_path / "birds", Image.fromarray(mask), size)
    message = refused(tmp_path, **MASK)
    assert f"{tmp_path}/birds/kite/0_mask.png: " in message
    assert said in message


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    image_folder(tmp_path / "birds", masks=True)
    (tmp_path / "birds/tit/2_mask.png").unlink()
    assert f"{tmp_path}/birds/tit/2_mask.png is missing, the mask of 2.png" in refused(tmp_path, **MASK)


def test_a_mask_without_its_image_is_skipped_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image_folder(tmp_path / "birds", masks=True)
    (tmp_path / "birds/tit/2.png").unlink()
    assert len(loaded(model(**MASK), tmp_path).images) == 35
    assert "skipped files that are no images: 1 (tit/2_mask.png)" in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["{stem}_mask.png", "masks/{stem}.png"])
def test_the_suffix_of_a_mask_may_be_in_capitals(tmp_path: Path, pattern: str) -> None:
    folder = image_folder(tmp_path / "birds", masks=True)
    plain = loaded(model(mask="{stem}_mask.png"), tmp_path)
    for name in BIRDS:
        for mask in sorted((folder / name).glob("*_mask.png")):
            target = folder / name / pattern.replace("{stem}", mask.stem.removesuffix("_mask"))
            target.parent.mkdir(exist_ok=True)
            mask.rename(target.with_suffix(".PNG"))
    assert loaded(model(mask=pattern), tmp_path).image_ids == plain.image_ids


def turned_by_exif(image: Image.Image, file: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(file, "PNG", exif=exif)


def test_a_mask_turns_with_its_image(tmp_path: Path) -> None:
    """An image of 12 x 10 that is seen as 10 x 12: its mask was drawn on the one or the other, as its size tells."""
    folder = image_folder(tmp_path / "birds", masks=True)
    size = {"size": [12, 10], "mask": "{stem}_mask.png"}
    mask = Image.open(folder / "owl" / "0_mask.png").convert("L")
    turned_by_exif(picture(401), folder / "owl" / "0.png", 6)
    stored = loaded(model(**size), tmp_path)
    seen = mask.transpose(Image.Transpose.ROTATE_270)
    seen.save(folder / "owl" / "0_mask.png")
    upright = loaded(model(**size), tmp_path)
    turned_by_exif(mask, folder / "owl" / "0_mask.png", 6)
    alike = loaded(model(**size), tmp_path)
    at = stored.image_ids.index("owl/0.png")
    assert stored.masks is not None
    np.testing.assert_array_equal(stored.masks[at, 0], np.asarray(seen) > 0)
    assert stored.fingerprint == upright.fingerprint == alike.fingerprint


@pytest.mark.parametrize("orientation", [2, 3, 8])
def test_a_mask_is_refused_where_nothing_tells_how_it_lies(tmp_path: Path, orientation: int) -> None:
    folder = image_folder(tmp_path / "birds", masks=True)
    size = (12, 12) if orientation == 8 else (12, 10)
    turned_by_exif(picture(401, size), folder / "owl" / "0.png", orientation)
    Image.fromarray(object_mask(401, size)).save(folder / "owl" / "0_mask.png")
    assert f"EXIF turns the image (orientation {orientation})" in refused(tmp_path, mask="{stem}_mask.png")
