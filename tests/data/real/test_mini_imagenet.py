"""mini-ImageNet: the same data set from every layout, the classes where the lists put them, errors that name what is
wrong.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data import image_decoding
from harness.data.cards import CARDS
from harness.data.dataset import SPLITS, Dataset
from harness.data.open_dataset import load_dataset
from harness.data.real import mini_imagenet, mini_imagenet_hub
from harness.data.sources import Finder
from harness.data.sources import download as fetched
from harness.util.errors import UserError
from tests.helpers.cifar import png

FINGERPRINT = "519af44d319c25a8cf90fa6072499f7d9d823c39fd9a4e313c656a3afa6f126d"
MEASURED = "9cb8577e5bbdeaa0f936604858273544ab11f17536ac7c2ac981ace281347f63"
"""Digest of the Parquet files on which the card's mean and standard deviation were measured."""

LISTS = mini_imagenet.lists()
CLASSES = [name for names in LISTS.values() for name in names]
IMAGES, SIDE = 2, 6


@pytest.fixture(autouse=True)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that asks for two images of 6x6 of a class, except in tests of the real data."""
    if "real_data" not in request.keywords:
        few = replace(
            CARDS["mini_imagenet"], image_shape=(3, SIDE, SIDE), images_per_class=dict.fromkeys(SPLITS, IMAGES)
        )
        monkeypatch.setitem(CARDS, "mini_imagenet", few)


def image_of(name: str, number: int, side: int = SIDE) -> np.ndarray:
    """Made-up pixels [side, side, 3] of the numbered image of a class."""
    return np.random.default_rng([int(name[1:]), number]).integers(0, 256, (side, side, 3), np.uint8)


def rows(split: str) -> list[tuple[str, str | None, bytes | None]]:
    """Class, file name and encoded image of every row of a split, in the order of the lists."""
    return [(name, f"{name}{i:08d}.jpg", png(image_of(name, i))) for name in LISTS[split] for i in range(IMAGES)]


Change = Callable[[str, list[Any]], list[Any]]


def parquet(
    root: Path, change: Change = lambda split, rows: rows, seed: int = 0, shards: int = 1, column: str = "label"
) -> Path:
    """A root with the Parquet layout, rows shuffled."""
    import datasets

    where = root / "mini_imagenet"
    where.mkdir(parents=True)
    for split, names in LISTS.items():
        found = change(split, rows(split))
        known = [*names, *sorted({name for name, _, _ in found if name} - set(names))]
        features = {"image": datasets.Image(), column: datasets.ClassLabel(names=known)}
        order = np.random.default_rng(seed).permutation(len(found))
        for shard, part in enumerate(np.array_split(order, shards)):
            chosen = [found[row] for row in part]
            table = datasets.Dataset.from_dict(
                {
                    "image": [{"bytes": content, "path": file} for _, file, content in chosen],
                    column: [known.index(name) if name else None for name, _, _ in chosen],
                },
                features=datasets.Features(features),
            )
            table.to_parquet(where / f"{split}-{shard:05d}-of-{shards:05d}.parquet")
    return root


def folders(root: Path, validation: str = "val") -> Path:
    """A root with the folder layout."""
    for split in SPLITS:
        for name, file, content in rows(split):
            path = root / "mini_imagenet" / (validation if split == "validation" else split) / name / str(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content or b"")
    return root


def loaded(root: Path | None, cache: Path) -> Dataset:
    return load_dataset("mini_imagenet", root, cache, download=False)


def refusal(root: Path, cache: Path) -> str:
    with pytest.raises(UserError) as caught:
        loaded(root, cache)
    assert not [path for path in cache.glob("*") if path.suffix != ".lock"]
    return str(caught.value)


def test_every_layout_row_order_and_sharding_gives_the_same_data_set(tmp_path: Path) -> None:
    roots = (
        parquet(tmp_path / "a"),
        parquet(tmp_path / "b", seed=1, shards=2),
        folders(tmp_path / "c"),
        folders(tmp_path / "d", validation="validation"),
    )
    found = [loaded(root, tmp_path / f"cache{i}") for i, root in enumerate(roots)]
    assert len({data.fingerprint for data in found}) == 1
    assert len({data.image_ids for data in found}) == 1
    assert {data.source for data in found} == {"mini-ImageNet, Parquet files", "mini-ImageNet, class folders"}


def test_every_image_is_in_its_class_and_split_in_the_order_of_list_and_file_name(tmp_path: Path) -> None:
    data = loaded(parquet(tmp_path / "root"), tmp_path / "cache")
    assert list(data.tables) == list(SPLITS)
    assert {split: table.names for split, table in data.tables.items()} == LISTS
    assert data.image_ids == tuple(f"{name}/{name}{i:08d}.jpg" for name in CLASSES for i in range(IMAGES))
    wanted = np.stack([image_of(name, i) for name in CLASSES for i in range(IMAGES)])
    assert (np.asarray(data.images).transpose(0, 2, 3, 1) == wanted).all()
    members = np.concatenate([table.members for table in data.tables.values()])
    assert members.tolist() == list(range(len(wanted)))


def test_rows_without_file_names_are_ordered_by_content_and_named_apart(tmp_path: Path) -> None:
    def nameless(split: str, found: list[Any]) -> list[Any]:
        # The second image of the first class is the first one again.
        return [(name, None, found[0][2] if row == 1 else content) for row, (name, _, content) in enumerate(found)]

    one = loaded(parquet(tmp_path / "a", nameless), tmp_path / "cache0")
    other = loaded(parquet(tmp_path / "b", nameless, seed=1), tmp_path / "cache1")
    assert (one.fingerprint, one.image_ids) == (other.fingerprint, other.image_ids)
    assert len(set(one.image_ids)) == len(one.image_ids)
    assert one.image_ids[1] == f"{one.image_ids[0]}-2"


def test_images_of_another_size_are_resized_and_grey_ones_become_colour(tmp_path: Path) -> None:
    large = np.kron(np.arange(0, 252, 7, dtype=np.uint8).reshape(SIDE, SIDE), np.ones((5, 3), np.uint8))

    def changed(split: str, found: list[Any]) -> list[Any]:
        return [(name, file, png(large) if row == 0 else content) for row, (name, file, content) in enumerate(found)]

    image = np.asarray(loaded(parquet(tmp_path / "root", changed), tmp_path / "cache").images[0])
    assert image.shape == (3, SIDE, SIDE)
    assert (image == image[0]).all()
    assert np.abs(image[0].astype(int) - large[2::5, 1::3]).max() < 4
    expected = Image.fromarray(large).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    assert (image == np.asarray(expected).transpose(2, 0, 1)).all()


def test_decoding_on_several_threads_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = parquet(tmp_path / "root")
    alone = loaded(root, tmp_path / "cache0").fingerprint
    monkeypatch.setattr(image_decoding, "threads", lambda: 7)
    monkeypatch.setattr(image_decoding, "_BATCH", 30)
    assert loaded(root, tmp_path / "cache1").fingerprint == alone


@pytest.mark.parametrize(("given", "allowed"), [("1", 1), ("3", 3), ("9", 4), ("", 4), ("0", 4), ("many", 4)])
def test_threads_are_those_allowed(monkeypatch: pytest.MonkeyPatch, given: str, allowed: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert image_decoding.threads() == allowed


# Broken and missing sources.


def test_a_class_with_too_few_or_too_many_images_is_named(tmp_path: Path) -> None:
    def changed(split: str, found: list[Any]) -> list[Any]:
        if split == "train":
            return found[1:]
        return [*found, (LISTS["test"][3], "one more.jpg", found[0][2])] if split == "test" else found[2:]

    message = refusal(parquet(tmp_path / "root", changed), tmp_path / "cache")
    assert f"{tmp_path / 'root' / 'mini_imagenet'} is not mini-ImageNet" in message
    assert f"class {LISTS['train'][0]} of train has 1 images instead of 2" in message
    assert f"class {LISTS['validation'][0]} of validation has 0 images instead of 2" in message
    assert f"class {LISTS['test'][3]} of test has 3 images instead of 2" in message


def test_classes_of_another_split_and_unknown_ones_are_named_with_the_file(tmp_path: Path) -> None:
    def changed(split: str, found: list[Any]) -> list[Any]:
        if split != "train":
            return found
        moved = [(LISTS["test"][0], file, content) for _, file, content in found[:2]]
        return [*moved, ("n99999999", "new.jpg", found[0][2]), (None, "unlabelled.jpg", found[0][2]), *found[2:]]

    message = refusal(parquet(tmp_path / "root", changed), tmp_path / "cache")
    file = tmp_path / "root" / "mini_imagenet" / "train-00000-of-00001.parquet"
    assert f"{file}: {LISTS['test'][0]} (2 rows) is a class of test, not of train" in message
    assert f"{file}: n99999999 (1 rows) is not a class of mini-ImageNet" in message
    assert f"{file}: row " in message
    assert "(unlabelled.jpg) has no class in column label" in message
    assert f"class {LISTS['train'][0]} of train has 0 images instead of 2" in message


def test_all_unreadable_images_are_reported_at_once(tmp_path: Path) -> None:
    def changed(split: str, found: list[Any]) -> list[Any]:
        if split != "validation":
            return found
        return [(name, file, b"torn" if row < 12 else content) for row, (name, file, content) in enumerate(found)]

    message = refusal(parquet(tmp_path / "root", changed), tmp_path / "cache").splitlines()
    file = tmp_path / "root" / "mini_imagenet" / "validation-00000-of-00001.parquet"
    assert len(message) == 12
    assert all(
        line.strip().startswith(f"{file}: row ") and "cannot be read as an image" in line for line in message[1:11]
    )
    assert message[11].strip() == "and 2 more"


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    root = folders(tmp_path / "root")
    name = LISTS["test"][0]
    file = root / "mini_imagenet" / "test" / name / f"{name}{1:08d}.jpg"
    file.write_bytes(file.read_bytes()[:60])
    assert f"{file}: cannot be read as an image: " in refusal(root, tmp_path / "cache")


def test_parquet_files_without_a_column_are_all_named(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path / "root", column="class"), tmp_path / "cache")
    for split in SPLITS:
        file = tmp_path / "root" / "mini_imagenet" / f"{split}-00000-of-00001.parquet"
        assert f"{file} has no column label; it has image, class" in message


def test_class_numbers_without_names_are_refused(tmp_path: Path) -> None:
    import datasets

    root = parquet(tmp_path / "root")
    file = root / "mini_imagenet" / "test-00000-of-00001.parquet"
    datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "hf")).cast_column(
        "label", datasets.Value("int64")
    ).to_parquet(file)
    assert f"{file}: column label has no class names" in refusal(root, tmp_path / "cache")


def test_stray_files_are_skipped_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = loaded(folders(tmp_path / "clean"), tmp_path / "cache0")
    root = folders(tmp_path / "root")
    where = root / "mini_imagenet" / "train"
    stray = [where / "n00000000.csv", where / LISTS["train"][0] / ".DS_Store", where / LISTS["train"][0] / "._one.jpg"]
    stray += [where / LISTS["train"][1] / f"note{i}.txt" for i in range(9)]
    for file in stray:
        file.write_text("not an image")
    capsys.readouterr()
    assert loaded(root, tmp_path / "cache1").fingerprint == clean.fingerprint
    message = capsys.readouterr().err
    assert f"skipped in {root / 'mini_imagenet'}" in message
    assert all(str(file) in message for file in stray[:10])
    assert "and 2 more" in message


def test_folders_of_other_classes_and_missing_ones_are_named(tmp_path: Path) -> None:
    root = folders(tmp_path / "root")
    where = root / "mini_imagenet"
    (where / "train" / LISTS["train"][0]).rename(where / "test" / LISTS["train"][0])
    (where / "val" / "cats").mkdir()
    message = refusal(root, tmp_path / "cache")
    assert f"{where / 'test' / LISTS['train'][0]} is a class of train, not of test" in message
    assert f"{where / 'val' / 'cats'} is not a class of mini-ImageNet" in message
    assert f"class {LISTS['train'][0]} of train has 0 images instead of 2" in message


def test_a_part_of_a_layout_is_not_passed_over(tmp_path: Path) -> None:
    root = parquet(tmp_path / "a")
    (root / "mini_imagenet" / "validation-00000-of-00001.parquet").unlink()
    assert f"{root / 'mini_imagenet'} is incomplete: there is no file validation-*.parquet" in refusal(
        root, tmp_path / "cache"
    )
    root = folders(tmp_path / "b")
    (root / "mini_imagenet" / "val").rename(root / "mini_imagenet" / "valid")
    assert "there is no folder validation" in refusal(root, tmp_path / "cache")


def test_missing_data_is_reported_with_every_place(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    message = refusal(tmp_path / "root", tmp_path / "cache")
    assert str(tmp_path / "root" / "mini_imagenet" / "train-*.parquet") in message
    assert str(tmp_path / "root" / "mini_imagenet" / "train" / "<WordNet id>" / "*.jpg") in message
    assert "data='stand-in'" in message


# The download, from a made-up hub.


def hub(monkeypatch: pytest.MonkeyPatch, change: Change, known: list[str]) -> None:
    """The hub has the repository: 100 classes, the first image of each in 'train', the second in 'validation'."""
    import datasets

    def load(path: str, *, revision: str, split: str, streaming: bool) -> Any:
        assert (path, streaming, len(revision)) == (mini_imagenet_hub.REPOSITORY, True, 40)
        number = ("train", "validation").index(split)
        found = change(split, [(name, f"{number}.jpg", png(image_of(name, number))) for name in sorted(CLASSES)])
        table = datasets.Dataset.from_dict(
            {
                "image": [{"bytes": content, "path": file} for _, file, content in found],
                "label": [known.index(name) for name, _, _ in found],
            },
            features=datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=known)),
        )
        return table.to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)


def test_a_download_is_divided_by_the_lists_resized_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def large(split: str, found: list[Any]) -> list[Any]:
        return [
            (name, file, png(image_of(name, row, 40)) if row < 3 else content)
            for row, (name, file, content) in enumerate(found)
        ]

    hub(monkeypatch, large, sorted(CLASSES))
    data = load_dataset("mini_imagenet", None, tmp_path / "cache")
    assert "7.4 GB" in capsys.readouterr().err
    assert {split: table.names for split, table in data.tables.items()} == LISTS
    assert all((table.sizes == IMAGES).all() for table in data.tables.values())
    first = sorted(CLASSES)
    for place, name in enumerate(CLASSES):
        row = first.index(name)
        for number in range(IMAGES):
            wanted = Image.fromarray(image_of(name, row, 40) if row < 3 else image_of(name, number))
            wanted = wanted.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            assert (data.images[place * IMAGES + number] == np.asarray(wanted).transpose(2, 0, 1)).all()
    assert loaded(None, tmp_path / "cache").fingerprint == data.fingerprint


@pytest.mark.parametrize("kind", ["class", "image", "torn"])
def test_a_repository_that_lacks_something_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def lacking(split: str, found: list[Any]) -> list[Any]:
        if kind == "class":
            return found[:-1]
        if kind == "torn":
            return [*found[:-1], (found[-1][0], "torn.jpg", b"torn")]
        return found if split == "train" else [*found[:-2], found[-1], found[-1]]

    hub(monkeypatch, lacking, sorted(CLASSES)[: -1 if kind == "class" else None])
    finder: Finder = mini_imagenet.finder(CARDS["mini_imagenet"])
    name = sorted(CLASSES)[-2 if kind == "image" else -1]
    wanted = {
        "class": f"timm/mini-imagenet, train: no class is named {name}",
        "image": f"class {name} has 1 images instead of 2",
        "torn": f"timm/mini-imagenet: cannot read the image torn.jpg of {name}",
    }
    with pytest.raises(UserError, match=wanted[kind]):
        fetched(finder, tmp_path / "downloads")
    assert os.listdir(tmp_path / "downloads") in (["download.lock"], [])


# The real data.


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_data_set_is_the_official_one(data_root: Path, cache: Path) -> None:
    data, card = loaded(data_root, cache), CARDS["mini_imagenet"]
    assert data.images.shape == (60000, *card.image_shape)
    assert {split: len(table.names) for split, table in data.tables.items()} == card.classes
    assert all((table.sizes == 600).all() for table in data.tables.values())
    members = np.concatenate([table.members for table in data.tables.values()])
    assert members.tolist() == list(range(60000))
    owner = [name for table in data.tables.values() for name in table.names for _ in range(600)]
    # The official file names begin with the class.
    assert all(called.startswith(f"{name}/{name}") for name, called in zip(owner, data.image_ids, strict=True))


@pytest.mark.real_data
def test_real_pixels_are_what_pillow_makes_of_them(data_root: Path, cache: Path) -> None:
    import pyarrow.parquet as pq

    files = sorted((data_root / "mini_imagenet").glob("validation-*.parquet"))
    if not files:
        pytest.skip("this data root has no Parquet files")
    data = loaded(data_root, cache)
    number = {called.split("/")[1]: n for n, called in enumerate(data.image_ids)}
    table = pq.read_table(files[0])
    for row in range(0, len(table), 97):
        entry, label = table["image"][row].as_py(), table["label"][row].as_py()
        n = number[entry["path"]]
        assert (data.images[n].transpose(1, 2, 0) == np.asarray(Image.open(io.BytesIO(entry["bytes"])))).all()
        assert (n - 64 * 600) // 600 == label


@pytest.mark.slow
@pytest.mark.real_data
def test_the_copy_that_the_card_was_measured_on_has_its_fingerprint(data_root: Path, cache: Path) -> None:
    card = CARDS["mini_imagenet"]
    source = mini_imagenet.finder(card).find(data_root)
    if source is None or source.digest != MEASURED:
        pytest.skip("another copy: its JPEG files differ, and so do its pixels")
    data = loaded(data_root, cache)
    assert data.fingerprint == FINGERPRINT
    counts = np.zeros((3, 256), np.int64)
    for start in range(0, 64 * 600, 600):
        counts += [
            np.bincount(channel.ravel(), minlength=256)
            for channel in data.images[start : start + 600].transpose(1, 0, 2, 3)
        ]
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    std = np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2)
    assert mean.round(4).tolist() == list(card.mean)
    assert std.round(4).tolist() == list(card.std)
