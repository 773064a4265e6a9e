"""A user's own image folder: what is decoded from it, what is skipped, and what is refused with its path."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from harness.data.open_dataset import load_dataset
from harness.protocol.feasibility import check_possible
from harness.protocol.models import PROTOCOL
from harness.util.errors import UserError
from tests.helpers.own_images import (
    BIRDS,
    LISTS,
    MASK,
    encoded,
    image_folder,
    left_in_cache,
    loaded,
    model,
    object_mask,
    picture,
    protocol_text,
    refused,
)


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


def one_class(where: Path, image: Image.Image, name: str = "0.png", **options: Any) -> None:
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


def test_a_folder_that_is_nowhere_is_named_with_the_places_looked_at(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(UserError) as caught:
        loaded(model(), tmp_path, root)
    assert "the data set 'garden_birds' is missing: there is no folder 'birds'" in str(caught.value)
    assert f"\n  {tmp_path}/birds\n  {root}/birds\n" in str(caught.value)


def test_a_relative_folder_is_beside_the_protocol_or_else_under_the_data_root(tmp_path: Path) -> None:
    root, near = tmp_path / "root", tmp_path / "beside"
    image_folder(root / "birds", images=3)
    near.mkdir()
    assert len(load_dataset(model(), root, tmp_path / "cache", base=near).images) == 27
    image_folder(near / "birds", images=2)
    assert len(load_dataset(model(), root, tmp_path / "cache", base=near).images) == 18
    absolute = model(folder=str(root / "birds"))
    assert len(load_dataset(absolute, None, tmp_path / "cache", base=near).images) == 27


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


def test_ten_problems_are_reported_and_the_others_counted(tmp_path: Path) -> None:
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


def test_messages_name_no_address_in_memory(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds")
    (folder / "owl" / "0.png").write_bytes(encoded(picture(1))[:60])
    (folder / "owl" / "1.png").write_bytes(b"")
    assert "0x" not in refused(tmp_path)
