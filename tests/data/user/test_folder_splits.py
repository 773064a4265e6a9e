"""Splits of a user's image folder: folders with the same classes, or with classes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.util.errors import UserError
from tests.helpers.own_images import (
    BIRDS,
    LISTS,
    image_folder,
    loaded,
    model,
    protocol_text,
    refused,
)

SPLITS = {"train": "training", "test": "test"}


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


def test_class_lists_on_folders_of_splits_are_refused_with_the_key_for_them(tmp_path: Path) -> None:
    folders_of_splits(tmp_path / "birds")
    (problem,) = refused(tmp_path).splitlines()[1:]
    assert f"{tmp_path}/birds has no folder for any class, but train/ has one for " in problem
    assert "'splits: {train: train, validation: val, test: test, disjoint: true}'" in problem


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
