"""A user's own image folder: what is decoded from it, what is skipped, and what is refused with its path."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from harness.cli import main
from harness.data.open_dataset import load_dataset
from harness.protocol.feasibility import check_possible
from harness.protocol.models import PROTOCOL
from harness.util.errors import UserError
from tests.helpers.own_images import (
    BIRDS,
    LISTS,
    encoded,
    image_folder,
    left_in_cache,
    loaded,
    model,
    object_mask,
    picture,
    protocol_text,
)

SPLITS = {"train": "training", "test": "test"}


def refused(base: Path, **changes: object) -> str:
    """What is said of data that cannot be used, of which nothing may be kept."""
    with pytest.raises(UserError) as caught:
        loaded(model(**changes), base)
    assert left_in_cache(base) == []
    return str(caught.value)


def test_images_of_the_right_size_come_out_as_they_are_in_order(tmp_path: Path) -> None:
    image_folder(tmp_path / "birds")
    data = loaded(model(size=[10, 12]), tmp_path)
    assert data.images.shape == (36, 3, 10, 12)
    for split, names in LISTS.items():
        table = data.tables[split]
        assert table.names == tuple(sorted(names))
        for row, name in enumerate(table.names):
            members = table.members[table.offsets[row] : table.offsets[row + 1]]
            assert [data.image_ids[i] for i in members] == [f"{name}/{i}.png" for i in range(4)]
            for i, image in enumerate(data.images[members]):
                np.testing.assert_array_equal(image.transpose(1, 2, 0), picture(100 * BIRDS.index(name) + i))
    assert data.masks is None


def test_the_card_is_measured(tmp_path: Path) -> None:
    image_folder(tmp_path / "birds")
    picture(7).save(tmp_path / "birds" / "owl" / "more.png")
    data = loaded(model(size=[10, 12]), tmp_path)
    assert data.card.classes == {"train": 3, "validation": 3, "test": 3}
    assert data.card.images_per_class == {"train": 4, "validation": 4, "test": 4}
    trained = np.asarray(data.images)[data.tables["train"].members] / 255
    assert data.card.mean == pytest.approx(trained.mean(axis=(0, 2, 3)), abs=6e-7)
    assert data.card.std == pytest.approx(trained.std(axis=(0, 2, 3)), abs=6e-7)
    assert all(round(value, 6) == value for value in (*data.card.mean, *data.card.std))
    assert loaded(model(size=[10, 12]), tmp_path).card == data.card, "read from the cache"


def test_a_channel_that_does_not_vary_can_be_divided_by(tmp_path: Path) -> None:
    for name in BIRDS:
        (tmp_path / "birds" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (255, 0, 51)).save(tmp_path / "birds" / name / "0.png")
    card = loaded(model(), tmp_path).card
    assert (card.mean, card.std) == ((1.0, 0.0, 0.2), (1.0, 1.0, 1.0))


def test_images_are_stretched_to_the_size_and_may_be_gray(tmp_path: Path) -> None:
    image_folder(tmp_path / "birds")
    data = loaded(model(size=[6, 4], channels=1), tmp_path)
    assert data.images.shape == (36, 1, 6, 4)
    wanted = picture(100 * BIRDS.index("kite")).convert("L").resize((4, 6), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(data.images[0, 0], wanted)


def one_class(where: Path, image: Image.Image, name: str = "0.png", **options: object) -> None:
    """The birds, with one image of their first training class in place of its images."""
    image_folder(where)
    shutil.rmtree(where / "kite")
    (where / "kite").mkdir()
    image.save(where / "kite" / name, **options)


def test_an_image_is_seen_as_its_camera_meant_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.zeros((12, 10, 3), np.uint8)
    upright[:6] = 255
    one_class(tmp_path / "birds", Image.fromarray(np.rot90(upright).copy()), exif=exif)
    assert (loaded(model(size=[12, 10]), tmp_path).images[0].transpose(1, 2, 0) == upright).all()


def test_what_is_transparent_is_put_on_white(tmp_path: Path) -> None:
    drawn = np.zeros((8, 8, 4), np.uint8)
    drawn[:4, :, 3] = 255
    one_class(tmp_path / "birds", Image.fromarray(drawn))
    image = loaded(model(), tmp_path).images[0]
    assert (image[:, :4] == 0).all()
    assert (image[:, 4:] == 255).all()


@pytest.mark.parametrize("suffix", [".JPG", ".bmp", ".webp", ".gif", ".tiff"])
def test_images_of_other_formats_are_read(tmp_path: Path, suffix: str) -> None:
    one_class(tmp_path / "birds", picture(0, (8, 8)), f"0{suffix}")
    assert loaded(model(), tmp_path).image_ids[0] == f"kite/0{suffix}"


# Masks.


def masked(where: Path, mask: Image.Image, size: tuple[int, int] = (8, 8)) -> None:
    """The birds with masks; the first training class has one image of `size` with this mask."""
    image_folder(where, masks=True)
    shutil.rmtree(where / "kite")
    (where / "kite").mkdir()
    picture(0, size).save(where / "kite" / "0.png")
    mask.save(where / "kite" / "0_mask.png")


MASK = {"mask": "{stem}_mask.png"}


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


# The source's own splits.


def test_own_splits_are_folders_with_the_same_classes(tmp_path: Path) -> None:
    for part in ("training", "test"):
        image_folder(tmp_path / "birds" / part, BIRDS[:3])
    data = loaded(model(classes=None, splits=SPLITS), tmp_path)
    assert {split: table.names for split, table in data.tables.items()} == dict.fromkeys(("train", "test"), BIRDS[:3])
    assert data.image_ids[0] == "training/crow/0.png"
    assert (data.card.disjoint, data.card.classes) == (False, {"train": 3, "test": 3})


def test_own_splits_with_different_classes_are_refused(tmp_path: Path) -> None:
    image_folder(tmp_path / "birds/training", BIRDS[:3])
    image_folder(tmp_path / "birds/test", BIRDS[1:4])
    message = refused(tmp_path, classes=None, splits=SPLITS)
    assert "class 'lark' (train) has no images" in message
    assert "class 'crow' (test) has no images" in message


def test_a_split_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    for part in ("train", "test"):
        image_folder(tmp_path / "birds" / part, BIRDS[:3])
    said = "splits.train: there is no split 'training'; did you mean 'train'?"
    assert said in refused(tmp_path, classes=None, splits=SPLITS)


# What is skipped.


def test_strays_and_unlisted_classes_are_skipped_counted_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image_folder(tmp_path / "birds", (*BIRDS, "dodo", "emu"))
    for i in range(12):
        (folder / "wren" / f"note{i:02}.txt").write_text("a wren")
    (folder / "wren" / "older").mkdir()
    (folder / "README").write_text("birds")
    (folder / "emu" / "what is in no list is not looked into.txt").write_text("")
    (folder / "wren" / ".hidden").write_text("")
    data = loaded(model(), tmp_path)
    said = capsys.readouterr().err
    assert "harness: garden_birds: skipped class folders that are in no list: 2 (dodo, emu)" in said
    assert "skipped files that are no images: 14 (README, wren/note00.txt, " in said
    assert "wren/note08.txt and 4 more)" in said
    assert ".hidden" not in said
    assert len(data.images) == 36


# What is refused.


def test_a_folder_that_is_nowhere_is_named_with_the_places_looked_at(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(UserError) as caught:
        loaded(model(), tmp_path, root)
    assert "the data set 'garden_birds' is missing: there is no folder 'birds'" in str(caught.value)
    assert f"\n  {tmp_path}/birds\n  {root}/birds\n" in str(caught.value)


def test_a_relative_folder_is_beside_the_protocol_or_else_under_the_data_root(tmp_path: Path) -> None:
    root, beside = tmp_path / "root", tmp_path / "beside"
    image_folder(root / "birds", images=3)
    beside.mkdir()
    assert len(load_dataset(model(), root, tmp_path / "cache", base=beside).images) == 27
    image_folder(beside / "birds", images=2)
    assert len(load_dataset(model(), root, tmp_path / "cache", base=beside).images) == 18
    absolute = model(folder=str(root / "birds"))
    assert len(load_dataset(absolute, None, tmp_path / "cache", base=beside).images) == 27


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    picture(0).save(tmp_path / "birds" / "0.png")
    assert f"{tmp_path}/birds has no class folders" in refused(tmp_path)


def test_a_listed_class_without_folder_or_images_is_named(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    (folder / "robin").rename(folder / "robins")
    for each in (folder / "tit").iterdir():
        each.unlink()
    message = refused(tmp_path)
    assert "class 'robin' of classes.train is not there; did you mean 'robins'?" in message
    assert "class 'tit' (test) has no images" in message


def test_broken_images_are_all_refused_with_their_paths(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    (folder / "wren/0.png").write_bytes(b"nonsense")
    (folder / "wren/1.png").write_bytes(b"")
    whole = (folder / "wren/2.png").read_bytes()
    (folder / "wren/2.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(folder / "tit/0.png")
    message = refused(tmp_path)
    for name in ("wren/0.png", "wren/1.png", "wren/2.png"):
        assert f"{folder}/{name}: cannot be read as an image" in message
    assert f"{folder}/tit/0.png: its pixels are no bytes (mode I;16); save it with 8 bits a channel" in message


def test_ten_problems_are_told_and_the_others_counted(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    for name in BIRDS[:3]:
        for each in (folder / name).iterdir():
            each.write_bytes(b"nonsense")
    message = refused(tmp_path)
    assert message.count("cannot be read as an image") == 10
    assert message.endswith("and 2 more")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read anything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    (folder / "wren/0.png").chmod(0)
    assert "wren/0.png" in refused(tmp_path)


def test_data_that_are_mended_are_decoded(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    good = (folder / "wren/0.png").read_bytes()
    (folder / "wren/0.png").write_bytes(b"nonsense")
    refused(tmp_path)
    (folder / "wren/0.png").write_bytes(good)
    assert len(loaded(model(), tmp_path).images) == 36


# The cache.


def test_the_same_content_is_decoded_once_wherever_it_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = loaded(model(), tmp_path / image_folder(tmp_path / "birds").parent)
    (tmp_path / "birds/wren/note.txt").write_text("what is no image does not matter")
    shutil.copytree(tmp_path / "birds", tmp_path / "moved")
    second = loaded(model(folder="moved"), tmp_path)
    assert capsys.readouterr().err.count("preparing") == 1
    assert second.fingerprint == first.fingerprint


@pytest.mark.parametrize("change", [{"size": 9}, {"channels": 1}, {"classes": {**LISTS, "test": ["jay", "tit"]}}])
def test_other_options_are_decoded_apart(tmp_path: Path, change: dict[str, object]) -> None:
    image_folder(tmp_path / "birds")
    first, second = loaded(model(), tmp_path), loaded(model(**change), tmp_path)
    assert first.fingerprint != second.fingerprint
    assert len(left_in_cache(tmp_path)) == 2


def test_an_edited_folder_is_decoded_anew(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds", masks=True)
    found = [loaded(model(**MASK), tmp_path).fingerprint]
    picture(5).save(folder / "wren/0.png")
    found.append(loaded(model(**MASK), tmp_path).fingerprint)
    Image.fromarray(object_mask(5)).save(folder / "wren/0_mask.png")
    found.append(loaded(model(**MASK), tmp_path).fingerprint)
    (folder / "jay/3.png").unlink()
    found.append(loaded(model(**MASK), tmp_path).fingerprint)
    assert len(set(found)) == 4


# Episodes that the data cannot hold.


def test_a_class_with_too_few_images_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    (folder / "tit/3.png").unlink()
    protocol = PROTOCOL.validate_python(yaml.safe_load(protocol_text()))
    with pytest.raises(UserError) as caught:
        check_possible(protocol, loaded(model(), tmp_path))
    said = "episode.presentations: 4 images of a class in an episode, but class 'tit' of garden_birds (test) has 3"
    assert str(caught.value).splitlines()[1:] == [f"  {said}"]
    picture(1).save(folder / "tit/3.png")
    check_possible(protocol, loaded(model(), tmp_path))


def test_files_whose_names_are_not_utf8_are_read(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds") / "owl"
    shutil.move(os.fsencode(folder / "0.png"), os.fsencode(folder) + b"/h\xe9.png")
    data = loaded(model(), tmp_path)
    assert "owl/h\\xe9.png" in data.image_ids
    json.dumps(data.image_ids, ensure_ascii=False).encode()


def test_a_folder_whose_name_is_not_utf8_is_named_as_left_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkdir(os.fsencode(image_folder(tmp_path / "birds")) + b"/gr\xfcn")
    loaded(model(), tmp_path)
    assert "skipped class folders that are in no list: 1 (gr\\xfcn)" in capsys.readouterr().err


def test_a_class_whose_accents_are_stored_otherwise_is_the_class(tmp_path: Path) -> None:
    one, two = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    lists = {**LISTS, "test": [one, "tit", "lark"]}
    fingerprints = set()
    for place, name in (("composed", one), ("decomposed", two)):
        image_folder(tmp_path / place, [name if each == "jay" else each for each in BIRDS])
        data = loaded(model(folder=place, classes=lists), tmp_path)
        assert one in data.tables["test"].names
        fingerprints.add(data.fingerprint)
    assert len(fingerprints) == 1


@pytest.mark.parametrize(("there", "listed"), [("JAY", "jay"), ("Jay", "jAY"), ("Königsfischer", "KÖNIGSFISCHER")])
def test_a_hint_looks_past_capitals(tmp_path: Path, there: str, listed: str) -> None:
    image_folder(tmp_path / "birds", [there if each == "jay" else each for each in BIRDS] + ["ay", "jas"])
    assert f"did you mean '{there}'?" in refused(tmp_path, classes={**LISTS, "test": [listed, "tit", "lark"]})


def test_files_that_are_no_images_are_named_where_a_class_has_no_others(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    for each in (folder / "owl").iterdir():
        each.rename(each.with_suffix(".heic"))
    (folder / "jay" / "2024").mkdir()
    for each in sorted((folder / "jay").glob("*.png")):
        each.rename(folder / "jay" / "2024" / each.name)
    said = refused(tmp_path)
    assert (
        "class 'owl' (validation) has no images; its files (0.heic, 1.heic, 2.heic and 1 more) end in none of" in said
    )
    assert "class 'jay' (test) has no images; its folder has folders of its own (2024)" in said


@pytest.mark.parametrize("suffix", [".jfif", ".JFIF", ".jpe", ".JPG"])
def test_jpeg_files_under_their_other_names_are_read(tmp_path: Path, suffix: str) -> None:
    folder = image_folder(tmp_path / "birds")
    for each in (folder / "owl").iterdir():
        Image.open(each).save(each.with_suffix(suffix), "JPEG")
        each.unlink()
    assert f"owl/0{suffix}" in loaded(model(), tmp_path).image_ids


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


OWN_CLASSES = {"train": "train", "validation": "val", "test": "test", "disjoint": True}


def folders_of_splits(where: Path) -> None:
    for split, names in LISTS.items():
        image_folder(where / {"validation": "val"}.get(split, split), names)


def test_folders_of_splits_may_have_classes_of_their_own(tmp_path: Path) -> None:
    folders_of_splits(tmp_path / "birds")
    data = loaded(model(classes=None, splits=OWN_CLASSES), tmp_path)
    assert {split: list(each.names) for split, each in data.tables.items()} == {
        split: sorted(names) for split, names in LISTS.items()
    }
    assert data.card.disjoint
    image_folder(tmp_path / "birds" / "val", ["wren"])
    with pytest.raises(UserError, match="class 'wren' is in train and in validation"):
        loaded(model(classes=None, splits=OWN_CLASSES), tmp_path)


def test_an_episode_shows_classes_of_its_own_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders_of_splits(tmp_path / "birds")
    data = {"name": "garden_birds", "folder": "birds", "size": 8, "splits": OWN_CLASSES}
    (tmp_path / "p.yaml").write_text(protocol_text(dataset=data), encoding="utf-8")
    assert main(["show", str(tmp_path / "p.yaml"), "--cache", str(tmp_path / "cache")]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in LISTS["test"])


def test_splits_are_for_the_kinds_that_they_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"name": "garden_birds", "folder": "birds", "size": 8, "splits": {**OWN_CLASSES, "disjoint": False}}
    (tmp_path / "p.yaml").write_text(protocol_text(dataset=data), encoding="utf-8")
    assert main(["validate", str(tmp_path / "p.yaml")]) == 2
    assert "add 'disjoint: true' if each split has classes of its own" in capsys.readouterr().err
    data["splits"] = OWN_CLASSES
    supervised = protocol_text(kind="supervised", dataset=data, episode=None, scoring=None)
    (tmp_path / "p.yaml").write_text(supervised, encoding="utf-8")
    assert main(["validate", str(tmp_path / "p.yaml")]) == 2
    assert "splits.disjoint: kind supervised has the same classes" in capsys.readouterr().err


def test_messages_name_no_address_in_memory(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    (folder / "owl" / "0.png").write_bytes(encoded(picture(1))[:60])
    (folder / "owl" / "1.png").write_bytes(b"")
    assert "0x" not in refused(tmp_path)
