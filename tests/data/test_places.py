"""Where data lie that a confined method must not find, wherever a protocol or a link says that they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.data.places import data_places
from harness.data.user.model import OwnData

CLASSES = {"train": ["robin", "wren"], "test": ["jay", "tit"]}


@pytest.fixture(autouse=True)
def _without_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def own(base: Path, **place: Any) -> set[Path]:
    """What is hidden of an own data set, besides the caches."""
    data = OwnData.model_validate({"name": "birds", "size": 8, "classes": CLASSES, **place})
    return set(data_places(data, base=base)) - {base / "cache", base / "hub"}


def file_at(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    return path


def table(path: Path, images: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, "label": ["jay"] * len(images)}), path)


@pytest.mark.parametrize("pattern", ["birds/train-*.parquet", "birds/tra?n-0.parquet", "birds/train-[0-9].parquet"])
def test_a_pattern_is_hidden_from_the_folder_on_in_which_it_begins(tmp_path: Path, pattern: str) -> None:
    table(tmp_path / "birds" / "train-0.parquet", [{"bytes": b"x", "path": None}])
    assert own(tmp_path, parquet=pattern) == {tmp_path / "birds"}
    assert own(tmp_path, parquet="birds/train-0.parquet") == {tmp_path / "birds/train-0.parquet"}
    assert own(tmp_path, parquet="elsewhere/*.parquet") == set(), "nothing is there"


def test_a_folder_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    table(tmp_path / "birds [2024]" / "a.parquet", [{"bytes": b"x", "path": None}])
    assert own(tmp_path, parquet="birds [2024]/*.parquet") == {tmp_path / "birds [2024]"}


def test_images_that_a_table_names_are_hidden_too(tmp_path: Path) -> None:
    file_at(tmp_path / "photos/jays/1.png")
    table(tmp_path / "tables/a.parquet", [{"bytes": None, "path": "../photos/jays/1.png"}])
    found = {each.resolve() for each in own(tmp_path, parquet="tables/a.parquet")}
    assert found == {tmp_path / "tables/a.parquet", tmp_path / "photos/jays"}


@pytest.mark.parametrize("parts", [None, {"train": "seen", "test": "new", "disjoint": True}])
@pytest.mark.parametrize(
    ("mask", "hidden"),
    [
        ("{stem}_mask.png", set()),
        ("outlines/{stem}.png", set()),
        ("MASKS/{class}/{stem}.png", {"masks/jay", "masks/tit"}),
        ("MASKS/of_{class}_{stem}.png", {"masks"}),
    ],
)
def test_masks_beside_the_folder_of_images_are_hidden(
    tmp_path: Path, mask: str, hidden: set[str], parts: dict[str, Any] | None
) -> None:
    for name in ("jay", "tit"):
        file_at(tmp_path / "photos" / ("new" if parts else "") / name / "1.png")
        file_at(tmp_path / "masks" / name / "1.png")
    mask = mask.replace("MASKS", "../../../masks" if parts else "../../masks")
    splits = {"classes": None, "splits": parts} if parts else {}
    assert own(tmp_path, folder="photos", mask=mask, **splits) == {tmp_path / "photos", *(tmp_path / h for h in hidden)}


def test_what_links_lead_to_is_hidden(tmp_path: Path) -> None:
    image = file_at(tmp_path / "archive/jays/1.png")
    (tmp_path / "photos/tit").mkdir(parents=True)
    (tmp_path / "photos/tit/1.png").symlink_to(image)
    (tmp_path / "photos/jay").symlink_to(file_at(tmp_path / "store/jay/1.png").parent)
    (tmp_path / "photos/all").symlink_to("/")
    assert own(tmp_path, folder="photos") == {tmp_path / "photos", tmp_path / "archive/jays", tmp_path / "store/jay"}
    (tmp_path / "root").mkdir()
    (tmp_path / "root/omniglot").symlink_to(tmp_path / "store")
    assert tmp_path / "store" in data_places("omniglot", tmp_path / "root")
