"""Small files that stand for gigabytes: their size is known before anything is unpacked, and they are refused."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from PIL import Image

from harness.data.image_decoding import Picture, decoded, listed, open_image, unreadable
from harness.data.real import fss1000, omniglot
from harness.runs import folder
from harness.runs.folder import read_scores, write_scores
from harness.util.errors import UserError
from tests.helpers.own_images import image_folder, refused


def png(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel: 21 kB for 169 million of them."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


@pytest.fixture(scope="module", params=[(13_000, 13_000), (20_000, 20_000)], ids=["warned of", "refused"])
def bomb(request: pytest.FixtureRequest) -> bytes:
    """Pillow only warns of the smaller one, which takes half a gigabyte in colour."""
    return png(*request.param)


SAID = "has more pixels than are decoded (89 million); save it smaller"


def test_a_picture_of_one_s_own(bomb: bytes, tmp_path: Path) -> None:
    image_folder(tmp_path / "birds")
    (tmp_path / "birds/crow/0.png").write_bytes(bomb)
    with warnings.catch_warnings(record=True) as caught:
        assert f"birds/crow/0.png: {SAID}" in refused(tmp_path)
    assert not caught, "nothing is said of it twice"


def test_a_picture_of_a_table(bomb: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 0"):
        decoded([Picture(0, "row 0", bomb)], 1, (3, 8, 8), tmp_path / "images", stretch=True)


def test_a_mask(bomb: bytes, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(bomb)
    with pytest.raises(ValueError, match=r"1\.png: cannot read the mask"):
        fss1000._opened(tmp_path / "1.png")


def test_a_large_photograph_is_no_bomb() -> None:
    with open_image(png(9_000, 9_000)) as image:
        assert image.size == (9_000, 9_000)


def test_what_is_said_of_a_bomb() -> None:
    for kind in (Image.DecompressionBombError, Image.DecompressionBombWarning):
        assert unreadable(kind("x")) == SAID


def test_a_member_of_a_zip_file(tmp_path: Path) -> None:
    member = "images_background/Greek/character01/0001_01.png"
    path = tmp_path / "images_background.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr(member, bytes(50 * 2**20))
    assert path.stat().st_size < 100_000
    with omniglot._opened(path) as (_, read), pytest.raises(UserError, match="it has 52428800 bytes, where a drawing"):
        omniglot._ink(path, member, read)


def test_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.npz"
    write_scores(path, {"accuracy": np.zeros(10**6)})
    assert len(read_scores(path)["accuracy"]) == 10**6
    monkeypatch.setattr(folder, "_MOST_BYTES", 10**6)
    with pytest.raises(UserError, match="it holds 8000128 bytes once it is unpacked"):
        read_scores(path)


def test_a_problem_that_quotes_a_whole_file_is_cut() -> None:
    (line,) = listed(["x" * 10**6]).splitlines()
    assert len(line) < 1100


def test_a_gif_of_many_frames_is_its_first(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (10, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    found = decoded([Picture(0, "x", file.getvalue())], 1, (3, 8, 8), tmp_path / "images", stretch=False)
    assert found.max() == 10
