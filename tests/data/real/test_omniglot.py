"""Omniglot: the same data set from every layout, and errors that name what is broken or missing."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from urllib.error import URLError
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
from PIL import Image

from harness.data.cards import CARDS
from harness.data.open_dataset import load_dataset
from harness.data.real import omniglot
from harness.data.sources import split_lines
from harness.util.errors import UserError

FINGERPRINTS = {
    "omniglot": "932a771e806e966bc234d0fbb84f6e1898b0dfb9be69d3d7373d7973ae33e5c7",
    "omniglot_lake": "109ee5109248149153ca765ed5d33d9867fb059116749d3a10146ed75fb280e3",
}
EVALUATION_ALPHABETS = 20

Members = dict[str, bytes]


def drawing(number: int) -> bytes:
    paper = np.full((105, 105), 255, np.uint8)
    row, column = 3 + number % 90, 3 + number // 90 % 90
    paper[row : row + 4, column:100] = 0
    paper[row:100, column : column + 3] = 0
    file = io.BytesIO()
    Image.fromarray(paper).convert("1").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def members() -> Members:
    """All characters of Omniglot with two made-up drawings each, as members of the official zip files."""
    parts = ("train", "val", "test")
    lines = {line.rsplit("/", 1)[0] for part in parts for line in split_lines(f"omniglot_vinyals_{part}")}
    evaluation = sorted({line.split("/")[0] for line in lines})[-EVALUATION_ALPHABETS:]
    made = {}
    for number, line in enumerate(sorted(lines)):
        half = omniglot.HALVES[line.split("/")[0] in evaluation]
        for drawer in (1, 2):
            made[f"{half}/{line}/{number:04d}_{drawer:02d}.png"] = drawing(2 * number + drawer)
    return made


@pytest.fixture
def two_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omniglot, "DRAWINGS", 2)


def zipped(members: Members, root: Path, order: Callable[[list[str]], list[str]] = sorted) -> Path:
    (root / "omniglot-py").mkdir(parents=True)
    for half in omniglot.HALVES:
        with ZipFile(root / "omniglot-py" / f"{half}.zip", "w", ZIP_STORED) as archive:
            for name in order([name for name in members if name.startswith(half)]):
                archive.writestr(name, members[name])
    return root


def unzipped(members: Members, root: Path) -> Path:
    for name, content in members.items():
        file = root / "omniglot-py" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def refusal(root: Path | None, cache: Path, name: str = "omniglot", download: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        load_dataset(name, root, cache, download)
    assert not [path for path in cache.glob("*") if path.suffix != ".lock" and path.name != "downloads"]
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("two_drawings")
def test_zip_files_and_folders_in_any_order_give_the_same_data_set(tmp_path: Path, members: Members) -> None:
    backwards = zipped(members, tmp_path / "zip", lambda names: sorted(names, reverse=True))
    first = load_dataset("omniglot", backwards, tmp_path / "cache1")
    second = load_dataset("omniglot", unzipped(members, tmp_path / "folder"), tmp_path / "cache2")
    assert first.fingerprint == second.fingerprint
    assert first.image_ids == second.image_ids
    mixed = tmp_path / "folder" / "omniglot-py"
    shutil.rmtree(mixed / "images_evaluation")
    shutil.copy(tmp_path / "zip" / "omniglot-py" / "images_evaluation.zip", mixed)
    assert load_dataset("omniglot", tmp_path / "folder", tmp_path / "cache3").fingerprint == first.fingerprint


@pytest.mark.usefixtures("two_drawings")
def test_classes_and_images_belong_together(tmp_path: Path, members: Members) -> None:
    data = load_dataset("omniglot", zipped(members, tmp_path / "root"), tmp_path / "cache")
    assert len(data.images) == len(members)
    for split in data.tables:
        table = data.tables[split]
        assert table.names == split_lines(f"omniglot_vinyals_{split.replace('validation', 'val')}")
        for c in range(0, len(table.names), 97):
            for image in table.members[table.offsets[c] : table.offsets[c + 1]]:
                name = data.image_ids[image]
                assert f"/{table.names[c].rsplit('/', 1)[0]}/" in name
                assert (data.images[image, 0] == omniglot.shrunk(ink(members[name])[None])[0]).all()


@pytest.mark.usefixtures("two_drawings")
def test_lake_holds_whole_alphabets_out_and_turns_nothing(tmp_path: Path, members: Members) -> None:
    data = load_dataset("omniglot_lake", zipped(members, tmp_path / "root"), tmp_path / "cache")
    alphabets = {split: {name.split("/")[0] for name in table.names} for split, table in data.tables.items()}
    assert [len(alphabets[split]) for split in ("train", "validation", "test")] == [27, 3, 20]
    assert len(set.union(*alphabets.values())) == 50
    assert max(alphabets["train"]) < min(alphabets["validation"])
    assert not any(table.rotations.any() for table in data.tables.values())
    halves = {data.image_ids[image].split("/")[0] for image in data.tables["test"].members}
    assert halves == {"images_evaluation"}


def ink(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L")) < 128


def random_ink(count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, 105, 105)) < 0.3


def test_shrinking_is_the_exact_average_over_area() -> None:
    drawn = random_ink(1)[0]
    small = omniglot.shrunk(drawn[None])[0]
    for row, column in ((0, 0), (5, 20), (13, 14), (27, 27)):
        covered = Fraction(0)
        for i in range(105):
            for j in range(105):
                high = min(Fraction(i + 1), Fraction(15 * (row + 1), 4)) - max(Fraction(i), Fraction(15 * row, 4))
                wide = min(Fraction(j + 1), Fraction(15 * (column + 1), 4)) - max(Fraction(j), Fraction(15 * column, 4))
                if drawn[i, j] and high > 0 and wide > 0:
                    covered += high * wide
        exact = covered * 255 / Fraction(15, 4) ** 2
        assert small[row, column] == int(exact + Fraction(1, 2))
    assert omniglot.shrunk(np.ones((1, 105, 105), bool)).min() == 255


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turning_before_or_after_shrinking_is_the_same_and_as_pillow_turns(quarters: int) -> None:
    drawn = random_ink(2)
    turned = np.stack([np.asarray(Image.fromarray(one).rotate(90 * quarters)) for one in drawn])
    assert (omniglot.shrunk(turned) == np.rot90(omniglot.shrunk(drawn), quarters, (1, 2))).all()
    assert (omniglot.shrunk(drawn[:, :, ::-1]) == omniglot.shrunk(drawn)[:, :, ::-1]).all()


@pytest.mark.usefixtures("two_drawings")
def test_rotation_classes_share_images_and_are_turned_by_their_name(tmp_path: Path, members: Members) -> None:
    data = load_dataset("omniglot", zipped(members, tmp_path / "root"), tmp_path / "cache")
    table = data.tables["test"]
    assert [name[-6:] for name in table.names[:4]] == ["rot000", "rot090", "rot180", "rot270"]
    assert table.rotations[:4].tolist() == [0, 1, 2, 3]
    rows = [table.members[table.offsets[c] : table.offsets[c + 1]].tolist() for c in range(4)]
    assert rows == [rows[0]] * 4


# Broken sources.

FIRST = "images_background/Alphabet_of_the_Magi/character01/"


def first_of(members: Members) -> str:
    return min(name for name in members if name.startswith(FIRST))


@pytest.mark.usefixtures("two_drawings")
def test_a_truncated_drawing_is_named(tmp_path: Path, members: Members) -> None:
    name = first_of(members)
    broken = {**members, name: members[name][:60]}
    message = refusal(zipped(broken, tmp_path / "zip"), tmp_path / "cache")
    assert name in message
    assert "images_background.zip" in message
    message = refusal(unzipped(broken, tmp_path / "folder"), tmp_path / "cache")
    assert str(tmp_path / "folder" / "omniglot-py" / name) in message


@pytest.mark.usefixtures("two_drawings")
def test_a_drawing_of_another_size_is_named(tmp_path: Path, members: Members) -> None:
    name, file = first_of(members), io.BytesIO()
    Image.new("1", (28, 28)).save(file, "PNG")
    message = refusal(zipped({**members, name: file.getvalue()}, tmp_path / "zip"), tmp_path / "cache")
    assert name in message
    assert "28x28" in message


@pytest.mark.usefixtures("two_drawings")
def test_a_damaged_member_of_a_zip_file_is_named(tmp_path: Path, members: Members) -> None:
    root = zipped(members, tmp_path / "zip")
    file, name = root / "omniglot-py" / "images_background.zip", first_of(members)
    content = bytearray(file.read_bytes())
    content[content.index(members[name]) + 45] ^= 0xFF
    file.write_bytes(content)
    assert f"{file}, member {name}" in refusal(root, tmp_path / "cache")


@pytest.mark.usefixtures("two_drawings")
def test_a_file_that_is_no_whole_zip_file_is_named(tmp_path: Path, members: Members) -> None:
    root = zipped(members, tmp_path / "zip")
    file = root / "omniglot-py" / "images_evaluation.zip"
    file.write_bytes(file.read_bytes()[:-1000])
    message = refusal(root, tmp_path / "cache")
    assert str(file) in message
    assert "not a whole zip file" in message


@pytest.mark.usefixtures("two_drawings")
def test_missing_and_strange_drawings_are_counted_and_named(tmp_path: Path, members: Members) -> None:
    name = first_of(members)
    few = {key: value for key, value in members.items() if key != name}
    assert "Alphabet_of_the_Magi/character01 has 1 drawings instead of 2" in refusal(
        zipped(few, tmp_path / "few"), tmp_path / "cache"
    )
    none = {key: value for key, value in members.items() if not key.startswith(FIRST)}
    assert "Alphabet_of_the_Magi/character01 is missing" in refusal(
        unzipped(none, tmp_path / "none"), tmp_path / "cache"
    )
    more = {**members, "images_background/Klingon/character01/9999_01.png": members[name]}
    assert "Klingon/character01 is not a character" in refusal(zipped(more, tmp_path / "more"), tmp_path / "cache")


# Missing sources.


def test_missing_data_is_reported_with_every_place_and_every_way_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    message = refusal(tmp_path / "root", tmp_path / "cache")
    for place in (tmp_path / "root", tmp_path / "cache" / "downloads"):
        for half in omniglot.HALVES:
            assert str(place / "omniglot-py" / f"{half}.zip") in message
    assert "https://github.com/brendenlake/omniglot" in message
    assert "torchvision.datasets.Omniglot" in message
    assert "data='stand-in'" in message
    assert "data_root=DIR" in refusal(None, tmp_path / "cache")


def test_a_data_root_that_is_not_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    assert "nowhere is not a folder" in refusal(tmp_path / "nowhere", tmp_path / "cache")


def test_an_unknown_name_is_reported_with_the_nearest(tmp_path: Path) -> None:
    assert "Did you mean 'omniglot'" in refusal(None, tmp_path / "cache", name="omnigloth")


def test_the_data_root_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in refusal(None, tmp_path / "cache")


def test_a_failed_download_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: str, background: bool, download: bool) -> None:
        (Path(root) / "omniglot-py").mkdir()
        (Path(root) / "omniglot-py" / "images_background.zip").write_bytes(b"half of it")
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.Omniglot", fail)
    message = refusal(None, tmp_path / "cache", download=True)
    assert "no route to host" in message
    assert "data='stand-in'" in message
    assert [file.name for file in (tmp_path / "cache" / "downloads").iterdir() if file.suffix != ".lock"] == []


@pytest.mark.usefixtures("two_drawings")
def test_a_download_is_kept_and_then_a_decoded_copy_is_enough(
    tmp_path: Path, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped(members, tmp_path / "internet")

    def fetch(root: str, background: bool, download: bool) -> None:
        half = omniglot.HALVES[not background]
        (Path(root) / "omniglot-py" / half).mkdir(parents=True)
        shutil.copy(tmp_path / "internet" / "omniglot-py" / f"{half}.zip", Path(root) / "omniglot-py")

    monkeypatch.setattr("torchvision.datasets.Omniglot", fetch)
    cache = tmp_path / "cache"
    first = load_dataset("omniglot", None, cache)
    assert sorted(file.name for file in (cache / "downloads" / "omniglot-py").iterdir()) == [
        "images_background.zip",
        "images_evaluation.zip",
    ]
    monkeypatch.delattr("torchvision.datasets.Omniglot")
    assert load_dataset("omniglot", None, cache).fingerprint == first.fingerprint
    shutil.rmtree(cache / "downloads")
    assert load_dataset("omniglot", None, cache, download=False).fingerprint == first.fingerprint
    # The same drawings in another split are another data set.
    assert "is missing" in message_of("omniglot_lake", cache)


def message_of(name: str, cache: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_dataset(name, None, cache, download=False)
    return str(caught.value)


# The real data.


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", ["omniglot", "omniglot_lake"])
def test_the_real_data_set_is_the_official_one(name: str, data_root: Path, cache: Path) -> None:
    data = load_dataset(name, data_root, cache)
    assert data.images.shape == (32460, 1, 28, 28)
    assert {split: len(table.names) for split, table in data.tables.items()} == CARDS[name].classes
    assert all((table.sizes == 20).all() for table in data.tables.values())
    used = [set(table.members.tolist()) for table in data.tables.values()]
    assert sum(map(len, used)) == len(set.union(*used)) == 32460
    assert data.fingerprint == FINGERPRINTS[name]


@pytest.mark.real_data
def test_real_drawings_are_what_pillow_decodes(data_root: Path, cache: Path) -> None:
    data = load_dataset("omniglot", data_root, cache)
    number = {name: i for i, name in enumerate(data.image_ids)}
    for half in omniglot.HALVES:
        place = data_root / "omniglot-py"
        archive = ZipFile(place / f"{half}.zip") if (place / f"{half}.zip").is_file() else None
        for name in [name for name in data.image_ids if name.startswith(half)][::1500]:
            raw = archive.read(name) if archive else (place / name).read_bytes()
            image = Image.open(io.BytesIO(raw)).convert("L")
            assert (data.images[number[name], 0] == omniglot.shrunk(ink(raw)[None])[0]).all()
            # Pillow's own reduction, from a four times enlarged copy, in which every box has whole pixels.
            boxes = np.asarray(image.resize((420, 420), Image.Resampling.NEAREST).reduce(15), int)
            assert abs(255 - boxes - data.images[number[name], 0]).max() <= 1
    # The one pair of identical drawings, known from the data set.
    pair = [number[f"images_background/Braille/character01/0192_{drawer}.png"] for drawer in ("03", "19")]
    assert (data.images[pair[0]] == data.images[pair[1]]).all()
