"""FSS-1000: the official layout read as it was published, and everything that is wrong told at once by name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.cards import CARDS
from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.data.real import fss1000
from harness.data.sources import split_lines
from harness.util.errors import UserError

LISTS = {"train": ("robin", "bus", "abe's_flyingfish"), "validation": ("apple",), "test": ("bamboo_slip", "kite")}
NAMES = sorted(name for part in LISTS.values() for name in part)
SIDE, IMAGES = 32, 4
LEFT_OUT = ("bamboo_slip/2",)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six classes of four images of 32x32, one pair of which is to be left out."""
    monkeypatch.setattr(fss1000, "_lists", lambda: LISTS)
    monkeypatch.setattr(fss1000, "IMAGES", IMAGES)
    monkeypatch.setattr(fss1000, "LEFT_OUT", LEFT_OUT)
    monkeypatch.setattr(fss1000, "SIDE", SIDE)
    monkeypatch.setitem(CARDS, "fss1000", replace(CARDS["fss1000"], image_shape=(3, SIDE, SIDE)))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for number, name in enumerate(NAMES):
        (folder / name).mkdir()
        for image in range(1, IMAGES + 1):
            # JPEG keeps one colour almost as it is.
            picture = np.full((SIDE, SIDE, 3), (20 * number, 60 * image, 128), np.uint8)
            Image.fromarray(picture).save(folder / name / f"{image}.jpg", quality=100)
            save(folder / name / f"{image}.png", square(number + image))
    save(folder / LEFT_OUT[0], np.random.default_rng(0).integers(0, 256, (48, 96, 3)))
    return folder


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    shutil.copytree(published, tmp_path / "root" / "fss1000")
    return tmp_path / "root"


def square(size: int) -> np.ndarray:
    """A mask of 0 and 255 [32, 32, 3] with size x size pixels of object."""
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    mask[4 : 4 + size, 6 : 6 + size] = 255
    return mask


def save(file: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(file.with_suffix(".png"))


def load(root: Path, cache: Path | None = None) -> Dataset:
    return load_dataset("fss1000", root, cache or root.parent / "cache", download=False)


def refusal(root: Path) -> str:
    cache = root.parent / "cache"
    with pytest.raises(UserError) as caught:
        load(root)
    assert not [path.name for path in cache.iterdir() if path.suffix != ".lock"], "something half-built was kept"
    return str(caught.value)


def mask_of(data: Dataset, name: str) -> np.ndarray:
    assert data.masks is not None
    return np.asarray(data.masks[data.image_ids.index(name), 0])


def test_images_and_masks_are_what_the_files_show(root: Path) -> None:
    data = load(root)
    assert data.images.shape == (23, 3, SIDE, SIDE)
    assert data.image_ids == tuple(
        f"{name}/{n}" for name in NAMES for n in range(1, IMAGES + 1) if f"{name}/{n}" not in LEFT_OUT
    )
    for number, name in enumerate(NAMES):
        for n in (1, IMAGES):
            image = data.images[data.image_ids.index(f"{name}/{n}")]
            assert np.abs(image.mean(axis=(1, 2)) - (20 * number, 60 * n, 128)).max() < 3
            assert (mask_of(data, f"{name}/{n}") == square(number + n)[..., 0] // 255).all()


def test_classes_follow_the_lists_and_lack_only_the_unusable_pair(root: Path) -> None:
    data = load(root)
    assert {split: table.names for split, table in data.tables.items()} == LISTS
    for table in data.tables.values():
        for c, name in enumerate(table.names):
            ids = [data.image_ids[i] for i in table.members[table.offsets[c] : table.offsets[c + 1]]]
            assert ids == [f"{name}/{n}" for n in range(1, IMAGES + 1) if f"{name}/{n}" not in LEFT_OUT]


@pytest.mark.parametrize("place", ["fewshot_data", "fewshot_data/fewshot_data"])
def test_the_folders_of_the_official_archive_give_the_same_data_set(root: Path, place: str) -> None:
    moved = root.parent / "moved"
    shutil.copytree(root / "fss1000", moved / place)
    found, wanted = fss1000.finder().find(moved), fss1000.finder().find(root)
    assert found is not None
    assert wanted is not None
    assert found.digest == wanted.digest
    assert load(moved).fingerprint == load(root, root.parent / "other").fingerprint


def test_nearly_black_and_white_masks_soft_outlines_palettes_and_zeros_and_ones_are_masks(root: Path) -> None:
    folder = root / "fss1000" / "kite"
    binary = square(12)[..., 0] // 255
    near = np.where(binary == 1, 244, 9).astype(np.uint8)
    Image.fromarray(near).save(folder / "1.png")
    palette = Image.fromarray(1 - binary).convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(folder / "2.png")
    Image.fromarray(binary).save(folder / "3.png")
    soft = near.copy()
    soft[3, 5:19], soft[16, 5:19], soft[4:16, 18], soft[4:16, 5] = 110, 20, 127, 100  # 5 % of the mask
    soft[4, 6:18] = 128
    Image.fromarray(soft).save(folder / "4.png")
    data = load(root)
    for n in range(1, 5):
        assert (mask_of(data, f"kite/{n}") == binary).all(), n


def test_a_pair_of_another_size_is_resized_together_and_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = root / "fss1000" / "bus"
    tall = np.zeros((100, 60, 3), np.uint8)
    tall[:50] = 200
    Image.fromarray(tall).save(folder / "3.jpg", quality=100)
    Image.fromarray(np.where(tall > 100, 255, 0).astype(np.uint8)).save(folder / "3.png")
    data = load(root)
    assert mask_of(data, "bus/3").tolist() == [[1] * SIDE] * 16 + [[0] * SIDE] * 16
    image = data.images[data.image_ids.index("bus/3")]
    assert image[:, :14].min() > 190
    assert image[:, -14:].max() < 10
    assert "resized to 32x32: 1 (bus/3 from 60x100)" in capsys.readouterr().err


def test_what_does_not_belong_is_skipped_named_and_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = load(root).fingerprint
    folder = root / "fss1000"
    (folder / "__MACOSX").mkdir()
    (folder / "unknown_bird").mkdir()
    (folder / "readme.txt").write_text("hello")
    for name in ("bus/.DS_Store", "bus/3.jpeg", "kite/Thumbs.db", "kite/11.jpg"):
        (folder / name).write_text("spare")
    shutil.rmtree(root.parent / "cache")
    capsys.readouterr()
    assert load(root).fingerprint == wanted
    text = capsys.readouterr().err
    assert "skipped folders that are in no class list: 2 (__MACOSX, unknown_bird)" in text
    assert (
        "skipped files that are no numbered image or mask: "
        "5 (readme.txt, bus/.DS_Store, bus/3.jpeg, kite/11.jpg, kite/Thumbs.db)" in text
    )
    assert f"left out pairs whose published mask is unusable: 1 ({LEFT_OUT[0]})" in text


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "mask of another size": (lambda f: save(f / "2", np.zeros((40, 32, 3))), "the mask is 32x40, but its image is 32x"),
    "empty mask": (lambda f: save(f / "2", np.full((32, 32, 3), 7)), "marks no pixel as object; its values are 7"),
    "a photograph": (
        lambda f: save(f / "2", np.random.default_rng(1).integers(0, 256, (32, 32, 3))),
        "not a mask of one object, [0-9]+% of its pixels are coloured",
    ),
    "coloured object": (lambda f: save(f / "2", square(9) * np.array([1, 0, 0])), "8% of its pixels are coloured"),
    "grey object": (
        lambda f: save(f / "2", square(20) // 3),
        "the mask is not binary, [0-9]+% of its .*; its values are 0, 85",
    ),
    "shades": (
        lambda f: save(f / "2", np.repeat(np.arange(0, 256, 8)[:, None, None], 32, 1).repeat(3, 2)),
        "the mask is not binary, [0-9]+% of its pixels are neither .*; its values are 32 different ones, 0[.][.]248",
    ),
    "missing mask": (lambda f: (f / "2.png").unlink(), r"2\.png: missing"),
    "broken mask": (lambda f: (f / "2.png").write_bytes(b"no image"), r"2\.png: cannot read the mask"),
}


@pytest.mark.parametrize("broken", list(BREAKS))
def test_a_bad_mask_is_named(root: Path, broken: str) -> None:
    damage, message = BREAKS[broken]
    damage(root / "fss1000" / "bus")
    text = refusal(root)
    assert f"{root / 'fss1000' / 'bus' / '2.png'}: " in text
    assert re.search(message, text), text


def test_a_bad_image_is_named(root: Path) -> None:
    missing, cut = root / "fss1000" / "bus" / "1.jpg", root / "fss1000" / "kite" / "2.jpg"
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:200])
    text = refusal(root)
    assert f"{missing}: missing" in text
    assert f"{cut}: cannot read the image: " in text


def test_absent_classes_are_named_and_counted(root: Path) -> None:
    shutil.rmtree(root / "fss1000" / "kite")
    shutil.rmtree(root / "fss1000" / "apple")
    assert f"{root / 'fss1000'}: 2 (apple, kite) of 6 class folders are absent" in refusal(root)


def test_everything_wrong_is_reported_at_once_ten_by_name(root: Path) -> None:
    for number, name in enumerate(NAMES[:4]):
        for image in (1, 3, 4):
            file = root / "fss1000" / name / f"{image}.png"
            file.write_bytes(b"broken") if number % 2 else file.unlink()
    shutil.rmtree(root / "fss1000" / "robin")
    text = refusal(root)
    assert "class folders are absent" in text
    assert text.count(".png: ") == 9
    assert "and 3 more" in text
    assert "github.com/HKUSTCV/FSS-1000" in text


def test_an_empty_folder_of_its_name_is_reported_and_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "root" / "fss1000").mkdir(parents=True)
    assert "6 class folders are absent" in refusal(tmp_path / "root")


def test_without_the_data_it_is_said_how_to_lay_it_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(UserError) as caught:
        load_dataset("fss1000", tmp_path / "root", tmp_path / "cache", download=True)
    text = str(caught.value)
    assert "has to be fetched by hand" in text
    assert f"{tmp_path / 'root' / 'fss1000' / '<class>' / '<n>.jpg'}" in text
    assert "github.com/HKUSTCV/FSS-1000" in text
    assert "data='stand-in'" in text
    assert os.listdir(tmp_path / "root") == []


def test_the_lists_are_the_official_test_classes_and_a_division_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    lists = fss1000._lists()
    assert [len(part) for part in lists.values()] == [520, 240, 240]
    assert len({name for part in lists.values() for name in part}) == 1000
    assert lists["test"] == split_lines("fss1000_test")
    assert lists["test"][:3] == ("bus", "hotel_slipper", "burj_al")
    assert {pair.split("/")[0] for pair in fss1000.LEFT_OUT} <= set(lists["test"])
    card = CARDS["fss1000"]
    assert card.masks
    assert {split: len(part) for split, part in lists.items()} == card.classes
    sizes = {split: min(len(fss1000._pairs([name])) for name in part) for split, part in lists.items()}
    assert sizes == card.images_per_class
