"""Names of a user's files and classes: encodings, accents, capitals, suffixes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.own_images import (
    BIRDS,
    LISTS,
    image_folder,
    loaded,
    model,
    refused,
)


def test_files_whose_names_are_not_utf8_are_read(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "birds") / "owl"
    os.rename(os.fsencode(folder / "0.png"), os.fsencode(folder) + b"/h\xe9.png")
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


def test_two_folders_that_differ_in_how_accents_are_stored_are_refused(tmp_path: Path) -> None:
    one, two = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
    image_folder(tmp_path / "birds", [one if each == "jay" else each for each in BIRDS] + [two])
    if len(list((tmp_path / "birds").glob("caf*"))) < 2:
        pytest.skip("this file system takes both names for one")
    said = refused(tmp_path, classes={**LISTS, "test": [one, "tit", "lark"]})
    assert "is there twice, with its accents written in two ways: rename one of them" in said


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
