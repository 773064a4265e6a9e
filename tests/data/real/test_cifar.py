"""CIFAR: the same data sets from Parquet and from the python version, and errors that name what is broken."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data.cards import CARDS
from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.data.real import cifar
from harness.data.real.cifar import CIFAR10, CIFAR100, Archive
from harness.data.sources import split_lines
from harness.util.errors import UserError
from tests.helpers.cifar import PER_CLASS, made, parquet, png

FINGERPRINT = "0060fa8ca648e084fec7ff4d43a5749dffb3416b0053677111872d52f13ccb02"
SUPERVISED = "6851e6fde17706f7a4a78b9166ef1431c52e4f6f7e5a88c79bc3fad9d34aef89"
DOCUMENTED = "2716d826d85ee9ca7f948fb4dc3b3d7515225d1a436d1c4b7e6975855da3d9ee"
"""SHA-256 of the decoded pixels of CIFAR-100's test part (uint8, NHWC) in the order of class number and file name."""

NAMES = CIFAR100.names
NAME_OF = {"cifar10": CIFAR10, "cifar100": CIFAR100}


@pytest.fixture
def three_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards that ask for three images of a class, two of them to train where there is such a division."""
    pooled = dict.fromkeys(CARDS["cifar_fs"].classes, PER_CLASS)
    monkeypatch.setitem(CARDS, "cifar_fs", replace(CARDS["cifar_fs"], images_per_class=pooled))
    for name in NAME_OF:
        monkeypatch.setitem(CARDS, name, replace(CARDS[name], images_per_class={"train": 2, "test": 1}))


def pickled(root: Path, monkeypatch: pytest.MonkeyPatch, archive: Archive = CIFAR100) -> Path:
    """A root with the layout of torchvision, whose MD5 sums are made to be those of the made-up files."""
    import torchvision

    vision = getattr(torchvision.datasets, archive.vision)
    images, labels = made(archive)
    folder = root / archive.pickled
    folder.mkdir(parents=True)
    key, names_key = ("labels", "label_names") if archive is CIFAR10 else ("fine_labels", "fine_label_names")
    test = np.arange(len(images)) % PER_CLASS == 2
    *trained, tested, meta = archive.files
    halves = [*zip(trained, np.array_split(np.flatnonzero(~test), len(trained)), strict=True)]
    for file, rows in (*halves, (tested, np.flatnonzero(test))):
        content = {"data": images[rows].transpose(0, 3, 1, 2).reshape(-1, 3072), key: labels[rows].tolist()}
        (folder / file).write_bytes(pickle.dumps(content))
    (folder / meta).write_bytes(pickle.dumps({names_key: list(archive.names)}))
    sums = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    monkeypatch.setattr(vision, "train_list", [[file, sums[file]] for file in trained])
    monkeypatch.setattr(vision, "test_list", [[tested, sums[tested]]])
    monkeypatch.setattr(vision, "meta", {**vision.meta, "md5": sums[meta]})
    return root


def refusal(root: Path | None, cache: Path, download: bool = False, name: str = "cifar_fs") -> str:
    with pytest.raises(UserError) as caught:
        load_dataset(name, root, cache, download)
    assert not [path for path in cache.glob("*") if path.suffix != ".lock" and path.name != "downloads"]
    return str(caught.value)


@pytest.mark.usefixtures("three_images")
def test_every_layout_row_order_and_sharding_gives_the_same_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = (
        parquet(tmp_path / "a"),
        parquet(tmp_path / "b", seed=1, shards=3),
        pickled(tmp_path / "c", monkeypatch),
    )
    loaded = [load_dataset("cifar_fs", root, tmp_path / f"cache{i}") for i, root in enumerate(roots)]
    assert len({data.fingerprint for data in loaded}) == 1
    assert len({data.image_ids for data in loaded}) == 1
    check_made(loaded[0])


def check_made(data: Dataset) -> None:
    images, labels = made()
    class_of = {image.tobytes(): NAMES[label] for image, label in zip(images, labels, strict=True)}
    seen = []
    for split, part in (("train", "train"), ("validation", "val"), ("test", "test")):
        table = data.tables[split]
        assert table.names == split_lines(f"cifar_fs_{part}")
        assert not table.rotations.any()
        for c, name in enumerate(table.names):
            for image in table.members[table.offsets[c] : table.offsets[c + 1]]:
                assert class_of[data.images[image].transpose(1, 2, 0).tobytes()] == name
                assert data.image_ids[image].startswith(f"{name}/")
                seen.append(image)
    assert sorted(seen) == list(range(len(images)))


@pytest.mark.usefixtures("three_images")
@pytest.mark.parametrize("name", NAME_OF)
def test_every_layout_of_a_supervised_set_gives_the_same_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    archive = NAME_OF[name]
    roots = (
        parquet(tmp_path / "a", archive=archive),
        parquet(tmp_path / "b", seed=1, shards=3, archive=archive),
        pickled(tmp_path / "c", monkeypatch, archive),
    )
    loaded = [load_dataset(name, root, tmp_path / f"cache{i}") for i, root in enumerate(roots)]
    assert len({data.fingerprint for data in loaded}) == 1
    assert len({data.image_ids for data in loaded}) == 1
    images, labels = made(archive)
    rows = {(image.tobytes(), row % PER_CLASS == 2): labels[row] for row, image in enumerate(images)}
    data, seen = loaded[0], []
    assert list(data.tables) == ["train", "test"]
    for split, table in data.tables.items():
        assert table.names == archive.names
        assert set(table.sizes.tolist()) == {CARDS[name].images_per_class[split]}
        for c in range(len(table.names)):
            for image in table.members[table.offsets[c] : table.offsets[c + 1]]:
                assert rows[data.images[image].transpose(1, 2, 0).tobytes(), split == "test"] == c
                assert data.image_ids[image].startswith(f"{split}/{archive.names[c]}/")
                seen.append(image)
    assert sorted(seen) == list(range(len(images)))
    assert len(set(data.image_ids)) == len(images)


@pytest.mark.usefixtures("three_images")
def test_image_names_are_unique_even_of_identical_images(tmp_path: Path) -> None:
    data = load_dataset("cifar_fs", parquet(tmp_path / "root"), tmp_path / "cache")
    assert len(set(data.image_ids)) == len(data.image_ids)
    twice = [name for name in data.image_ids if name.endswith("-2")]
    assert len(twice) == 1
    assert twice[0].startswith(NAMES[7])
    assert twice[0][:-2] in data.image_ids


# Broken and missing sources.


@pytest.mark.usefixtures("three_images")
def test_a_missing_column_is_named_with_the_file(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path / "root", without=["fine_label"]), tmp_path / "cache")
    assert str(tmp_path / "root" / "cifar100" / "train-00000.parquet") in message
    assert "no column fine_label; it has img" in message
    assert str(tmp_path / "root" / "cifar100" / "test-00002.parquet") in message


@pytest.mark.usefixtures("three_images")
@pytest.mark.parametrize("content", [png(np.zeros((32, 32, 3), np.uint8))[:50], b"", png(np.zeros((9, 9), np.uint8))])
def test_a_broken_image_is_named_with_file_and_row(tmp_path: Path, content: bytes) -> None:
    message = refusal(parquet(tmp_path / "root", replaced={0: content}), tmp_path / "cache")
    reasons = "(cannot be read as an image|there is no image|is 9x9)"
    assert re.search(rf"train-0000\d\.parquet: row \d+ \(0\.png\): {reasons}", message)
    assert " at 0x" not in message


@pytest.mark.usefixtures("three_images")
def test_all_broken_images_are_reported_at_once_the_first_ten_in_words(tmp_path: Path) -> None:
    broken: dict[int, bytes | None] = dict.fromkeys(range(12), b"no image")
    broken[12] = None
    message = refusal(parquet(tmp_path / "root", replaced=broken), tmp_path / "cache").splitlines()
    assert len(message) == 12
    assert all(".parquet: row " in line for line in message[1:11])
    assert message[11].strip() == "and 3 more"


@pytest.mark.usefixtures("three_images")
def test_a_row_without_a_class_is_named(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path / "root", labelled={4: None, 8: -1}), tmp_path / "cache")
    assert re.search(r"train-0000\d\.parquet: row \d+ has no class in column fine_label", message)
    assert re.search(r"test-00002\.parquet: row \d+ has no class in column fine_label", message)


@pytest.mark.usefixtures("three_images")
@pytest.mark.parametrize("length", [0, 100, -100])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, length: int) -> None:
    root = parquet(tmp_path / "root")
    file = root / "cifar100" / "test-00002.parquet"
    file.write_bytes(file.read_bytes()[:length])
    assert f"{file} cannot be read as a Parquet file" in refusal(root, tmp_path / "cache")


@pytest.mark.usefixtures("three_images")
def test_missing_images_and_classes_are_counted(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path / "few", left_out=(0, 3, 4, 5)), tmp_path / "cache")
    assert f"{NAMES[0]} has 2 images, not 3" in message
    assert f"{NAMES[1]} has 0 images, not 3" in message
    assert str(tmp_path / "few" / "cifar100") in message
    message = refusal(parquet(tmp_path / "named", names=("Apfel", *NAMES[1:])), tmp_path / "cache")
    assert f"{NAMES[0]} has 0 images, not 3" in message
    assert "Apfel (3 images) is no class of CIFAR-100" in message


@pytest.mark.usefixtures("three_images")
def test_missing_images_of_a_supervised_set_are_counted_by_split(tmp_path: Path) -> None:
    root = parquet(tmp_path / "root", archive=CIFAR10, left_out=(0, 5))
    message = refusal(root, tmp_path / "cache", name="cifar10")
    assert f"{root / 'cifar10'} is not the whole of CIFAR-10" in message
    assert "airplane has 1 images in train, not 2" in message
    assert "automobile has 0 images in test, not 1" in message


def test_a_few_images_are_not_taken_for_cifar10(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path / "root", archive=CIFAR10), tmp_path / "cache", name="cifar10")
    assert "airplane has 2 images in train, not 5000" in message
    assert "and 10 more" in message


@pytest.mark.usefixtures("three_images")
def test_half_of_the_parquet_files_are_not_passed_over(tmp_path: Path) -> None:
    root = parquet(tmp_path / "root")
    (root / "cifar100" / "test-00002.parquet").unlink()
    assert f"{root / 'cifar100'} is incomplete: there is no test-*.parquet" in refusal(root, tmp_path / "cache")


def test_files_of_the_python_version_with_another_md5_are_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pickled(tmp_path / "root", monkeypatch)
    witness = tmp_path / "unpickled"
    (root / "cifar-100-python" / "train").write_bytes(pickle.dumps(_Touching(witness)))
    message = refusal(root, tmp_path / "cache")
    assert str(root / "cifar-100-python") in message
    assert "MD5" in message
    assert not witness.exists()


class _Touching:
    """Unpickling one makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_missing_data_is_reported_with_every_place_and_every_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: str, download: bool) -> None:
        raise RuntimeError("the server said no")

    fail.filename = "cifar-100-python.tar.gz"  # type: ignore[attr-defined]
    monkeypatch.setattr("torchvision.datasets.CIFAR100", fail)
    (tmp_path / "root").mkdir()
    message = refusal(tmp_path / "root", tmp_path / "cache", download=True)
    for place in (tmp_path / "root", tmp_path / "cache" / "downloads"):
        assert str(place / "cifar100" / "train-*.parquet") in message
        assert str(place / "cifar-100-python") in message
    for way in ("huggingface.co/datasets/uoft-cs/cifar100", "torchvision.datasets.CIFAR100", "data='stand-in'"):
        assert way in message
    assert "the server said no" in message


@pytest.mark.usefixtures("three_images")
def test_a_download_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR100

    def fetch(self: CIFAR100) -> None:
        pickled(Path(self.root), monkeypatch)
        (Path(self.root) / CIFAR100.filename).write_bytes(b"the archive")

    monkeypatch.setattr(CIFAR100, "download", fetch)
    check_made(load_dataset("cifar_fs", None, tmp_path / "cache"))
    assert sorted(os.listdir(tmp_path / "cache" / "downloads" / "cifar-100-python")) == ["meta", "test", "train"]
    assert not (tmp_path / "cache" / "downloads" / CIFAR100.filename).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("three_images")
def test_nothing_is_written_outside_the_cache(tmp_path: Path) -> None:
    parquet(tmp_path / "root")
    (tmp_path / "home").mkdir()
    code = (
        "import sys; from pathlib import Path; from harness.data.cards import CARDS\n"
        "from harness.data.open_dataset import load_dataset\n"
        "CARDS['cifar_fs'].images_per_class.update(train=3, validation=3, test=3)\n"
        "load_dataset('cifar_fs', Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    hidden = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "XDG_"))}
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "root").rglob("*"))
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "root"), str(tmp_path / "cache")],
        env={**hidden, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(cifar.__file__).parents[3])},
        cwd=tmp_path / "home",
        check=True,
        timeout=120,
    )
    assert list((tmp_path / "home").rglob("*")) == []
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "root").rglob("*")) == before
    folders = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert len(folders) == 1
    assert sorted(os.listdir(folders[0])) == ["images.npy", "meta.json", "tables.json"]


# The real data.


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_data_set_is_the_official_one(data_root: Path, cache: Path) -> None:
    data = load_dataset("cifar_fs", data_root, cache)
    assert data.images.shape == (60000, 3, 32, 32)
    assert {split: len(table.names) for split, table in data.tables.items()} == CARDS["cifar_fs"].classes
    assert all((table.sizes == 600).all() for table in data.tables.values())
    used = [set(table.members.tolist()) for table in data.tables.values()]
    assert sum(map(len, used)) == len(set.union(*used)) == 60000
    names = [name for table in data.tables.values() for name in table.names]
    assert len(set(names)) == 100
    assert statistics(data) == (CARDS["cifar_fs"].mean, CARDS["cifar_fs"].std)
    assert data.fingerprint == FINGERPRINT


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_supervised_set_is_what_its_card_says(data_root: Path, cache: Path) -> None:
    data, card = load_dataset("cifar100", data_root, cache), CARDS["cifar100"]
    assert data.images.shape == (60000, 3, 32, 32)
    assert {split: len(table.names) for split, table in data.tables.items()} == card.classes
    assert {split: set(table.sizes.tolist()) for split, table in data.tables.items()} == {"train": {500}, "test": {100}}
    mean, std = statistics(data)
    assert (mean, std) == (card.mean, card.std)
    assert data.fingerprint == SUPERVISED


def statistics(data: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over the images to train, to 4 digits."""
    train = data.images[np.sort(data.tables["train"].members)]
    counts = np.stack([np.bincount(train[:, c].ravel(), minlength=256) for c in range(3)])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    std = np.sqrt(counts @ levels**2 / counts.sum(axis=1) - mean**2)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


@pytest.mark.slow
@pytest.mark.real_data
def test_real_pixels_are_the_documented_ones_in_their_classes_and_splits(data_root: Path, cache: Path) -> None:
    """Those of the test part; that those to train are the same as ever, the fingerprints say."""
    import pyarrow.parquet as pq

    if not (data_root / "cifar100").is_dir():
        pytest.skip("this data root has no Parquet files, whose file names the documented order needs")
    few, whole = load_dataset("cifar_fs", data_root, cache), load_dataset("cifar100", data_root, cache)
    in_few = {pair for split in few.tables for pair in shown(few, split)}
    rows = []
    for file in sorted((data_root / "cifar100").glob("test-*.parquet")):
        table = pq.read_table(file, columns=["img", "fine_label"])
        for image, label in zip(table["img"].to_pylist(), table["fine_label"].to_pylist(), strict=True):
            rows.append((label, image["path"], np.asarray(Image.open(io.BytesIO(image["bytes"]))).tobytes()))
    rows.sort(key=lambda row: row[:2])
    assert hashlib.sha256(b"".join(pixels for _, _, pixels in rows)).hexdigest() == DOCUMENTED
    published = [(NAMES[label], hashlib.sha256(pixels).digest()) for label, _, pixels in rows]
    assert sorted(shown(whole, "test")) == sorted(published)
    assert in_few.issuperset(published)


def shown(data: Dataset, split: str) -> list[tuple[str, bytes]]:
    """Class name, and SHA-256 of the pixels with channels last, of every image of a split."""
    table, channels_last = data.tables[split], np.asarray(data.images).transpose(0, 2, 3, 1)
    owners = np.repeat(np.arange(len(table.names)), table.sizes)
    return [
        (table.names[c], hashlib.sha256(channels_last[image].tobytes()).digest())
        for c, image in zip(owners, table.members, strict=True)
    ]
