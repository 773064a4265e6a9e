"""Encoded images are opened as Pillow opens them, whatever format they are in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from harness.data.image_decoding import open_image, pixels

FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "TGA"]


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_are_decoded_as_the_file_is(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    file = tmp_path / "image"
    image.save(file, name)
    with open_image(file.read_bytes()) as ours, Image.open(file) as theirs:
        assert ours.format == theirs.format == name
        expected = np.asarray(theirs.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(pixels(file.read_bytes(), (3, 9, 7), stretch=False), expected)
    assert np.array_equal(pixels(file, (3, 9, 7), stretch=False), expected)


@pytest.mark.parametrize("start", [b"RIFF\x10\0\0\0WAVE", b"\x89PNG", b"\xff\xd8\xff", b"", b"text"])
def test_what_only_begins_like_an_image_is_none(start: bytes) -> None:
    with pytest.raises(UnidentifiedImageError):
        open_image(start + bytes(40))


def test_damaged_images_are_errors_of_pillow() -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    with pytest.raises(Exception, match=r"truncated|broken|not enough|incomplete"):
        pixels(file.getvalue()[:-60], (3, 64, 64), stretch=False)
