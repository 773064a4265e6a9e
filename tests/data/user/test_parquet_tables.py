"""A user's own data set in Parquet files or on the hub: columns, labels, masks, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness.data.open_dataset import load_dataset
from harness.util.errors import UserError
from tests.helpers.own_images import (
    BIRDS,
    LISTS,
    encoded,
    image_folder,
    loaded,
    model,
    object_mask,
    picture,
    refusal,
)

ROWS = range(36)
NUMBERS = {split: [str(BIRDS.index(name)) for name in names] for split, names in LISTS.items()}
PART = {"train": "train", "test": "test"}


def bird(row: int) -> str:
    return BIRDS[row % 9]


def number(row: int) -> int:
    """The picture of a row: those of `image_folder`."""
    return 100 * (row % 9) + row // 9


def frame(rows: Any = ROWS, **columns: Any) -> pd.DataFrame:
    """The birds of `image_folder` as a table with plain bytes and text."""
    images = [encoded(picture(number(row))) for row in rows]
    return pd.DataFrame({"image": images, "label": [bird(row) for row in rows], **columns})


def table(**changes: Any) -> Any:
    return model(**{"folder": None, "parquet": "birds.parquet", "size": [10, 12], **changes})


def refused(base: Path, **changes: Any) -> str:
    return refusal(table(**changes), base)


def as_the_hub_stores_it(path: Path, labels: list[Any] | None = None) -> None:
    import datasets

    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(BIRDS)))
    rows = {
        "image": [{"bytes": encoded(picture(number(row))), "path": None} for row in ROWS],
        "label": labels or [row % 9 for row in ROWS],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))


def as_structs(path: Path) -> None:
    images = [{"bytes": each, "path": "x.png"} for each in frame()["image"]]
    frame(image=images).to_parquet(path)


WRITERS = {
    "features of the hub": as_the_hub_stores_it,
    "structs": as_structs,
    "bytes": lambda path: frame().to_parquet(path),
    "categories": lambda path: frame(label=pd.Categorical(frame()["label"])).to_parquet(path),
}


@pytest.mark.parametrize("form", WRITERS)
def test_a_table_gives_the_data_set_that_a_folder_gives(tmp_path: Path, form: str) -> None:
    WRITERS[form](tmp_path / "birds.parquet")
    image_folder(tmp_path / "birds")
    data, folder = loaded(table(), tmp_path), loaded(model(size=[10, 12]), tmp_path)
    assert data.fingerprint == folder.fingerprint
    assert data.card.mean == folder.card.mean
    assert data.image_ids[:5] == tuple(f"birds.parquet:{row}" for row in (2, 11, 20, 29, 5))


def test_classes_may_be_whole_numbers(tmp_path: Path) -> None:
    frame(label=[row % 9 for row in ROWS]).to_parquet(tmp_path / "birds.parquet")
    data = loaded(table(classes=NUMBERS), tmp_path)
    assert data.tables["test"].names == tuple(sorted(NUMBERS["test"]))
    np.testing.assert_array_equal(data.images[0].transpose(1, 2, 0), picture(number(2)))


def test_columns_have_the_names_that_are_given(tmp_path: Path) -> None:
    frame().rename(columns={"image": "photo", "label": "species"}).to_parquet(tmp_path / "birds.parquet")
    assert len(loaded(table(image="photo", label="species"), tmp_path).images) == 36


def test_masks_may_be_a_column(tmp_path: Path) -> None:
    masks = [encoded(Image.fromarray(object_mask(number(row)))) for row in ROWS]
    frame(outline=masks).to_parquet(tmp_path / "birds.parquet")
    data = loaded(table(mask="outline"), tmp_path)
    assert data.masks is not None
    np.testing.assert_array_equal(data.masks[0, 0], object_mask(number(2)))


def test_several_files_are_one_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, rows in (("a", range(18)), ("b", range(18, 36))):
        (tmp_path / part).mkdir()
        frame(rows).to_parquet(tmp_path / part / "birds.parquet")
    frame([0]).assign(label="dodo").to_parquet(tmp_path / "a" / "dodo.parquet")
    data = loaded(table(parquet="**/*.parquet"), tmp_path)
    assert len(data.images) == 36
    assert len(set(data.image_ids)) == 36
    assert data.image_ids[0] == "a/birds.parquet:2"
    assert "skipped classes that are in no list: 1 (dodo)" in capsys.readouterr().err


def test_own_splits_are_files_of_their_own(tmp_path: Path) -> None:
    frame(range(27)).to_parquet(tmp_path / "one.parquet")
    frame(range(27, 36)).to_parquet(tmp_path / "two.parquet")
    pd.DataFrame({"text": ["neither images nor labels"]}).to_parquet(tmp_path / "three.parquet")
    files = {"train": "one.parquet", "test": "two.parquet", "other": "three.parquet"}
    data = loaded(table(classes=None, splits=PART, parquet=files), tmp_path)
    assert {split: len(each.members) for split, each in data.tables.items()} == {"train": 27, "test": 9}
    assert data.tables["train"].names == data.tables["test"].names == BIRDS


def test_own_splits_with_different_classes_are_refused(tmp_path: Path) -> None:
    frame(range(27)).to_parquet(tmp_path / "one.parquet")
    frame(range(8)).to_parquet(tmp_path / "two.parquet")
    files = {"train": "one.parquet", "test": "two.parquet"}
    assert "class 'wren' (test) has no images" in refused(tmp_path, classes=None, splits=PART, parquet=files)


@pytest.mark.parametrize(
    ("content", "changes", "said"),
    [
        (frame(), {"image": "imag"}, "there is no column 'imag', did you mean 'image'? (it has image, label)"),
        (frame(), {"mask": "mask"}, "there is no column 'mask' (it has image, label)"),
        (frame(image=["a.png"] * 36), {}, "column 'image' holds large_string, not images"),
        (frame(label=[0.5] * 36), {}, "column 'label' holds float64, not classes (whole numbers or text)"),
        (frame(label=[None, *"b" * 35]), {}, "row 0: the label is null"),
        (frame(label=["", *"b" * 35]), {}, "row 0: the label is null"),
        (frame(image=[None, *frame()["image"][1:]]), {}, "row 0: there is no image"),
        (frame(image=[*frame()["image"][:35], b"no"]), {}, "row 35: cannot be read as an image: its format is not"),
        (frame(mask=[None] * 36, label=frame()["label"]).astype({"mask": object}), {"mask": "mask"}, "column 'mask'"),
        (frame(), {"classes": {**LISTS, "test": ["jai", "tit", "lark"]}}, "class 'jai' of classes.test is not there; "),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, content: pd.DataFrame, changes: dict[str, Any], said: str
) -> None:
    content.to_parquet(tmp_path / "birds.parquet")
    message = refused(tmp_path, **changes)
    assert said in message
    assert "birds.parquet" in message or "class 'jai'" in message


def test_a_row_that_the_hub_has_no_label_for_is_refused(tmp_path: Path) -> None:
    as_the_hub_stores_it(tmp_path / "birds.parquet", [None if row == 4 else row % 9 for row in ROWS])
    assert f"{tmp_path}/birds.parquet: row 4: the label is null" in refused(tmp_path)


def test_rows_whose_label_is_hidden_are_left_aside_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The `datasets` library marks hidden test labels by -1."""
    (tmp_path / "birds").mkdir()
    as_the_hub_stores_it(tmp_path / "birds" / "train.parquet")
    as_the_hub_stores_it(tmp_path / "birds" / "test.parquet", [-1] * len(ROWS))
    data = loaded(table(parquet="birds/*.parquet"), tmp_path)
    assert len(data.images) == len(ROWS)
    said = capsys.readouterr().err
    assert "skipped rows whose label is -1, which stands for no class: 36" in said
    assert "test.parquet: row 0" in said


def with_paths(folder: Path, shift: int = 0) -> None:
    """The birds as a table of paths, relative to the table, and the images beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [f"photos [new]/{row}.png" for row in ROWS]
    (folder / "photos [new]").mkdir(exist_ok=True)
    for row in ROWS:
        picture(number(row) + shift).save(folder / paths[row])
    frame(image=[{"bytes": None, "path": path} for path in paths]).to_parquet(folder / "birds.parquet")


def test_paths_in_a_table_are_relative_to_the_table(tmp_path: Path) -> None:
    with_paths(tmp_path / "deep" / "er")
    data = loaded(table(parquet="deep/*/birds.parquet"), tmp_path)
    frame().to_parquet(tmp_path / "birds.parquet")
    assert data.fingerprint == loaded(table(), tmp_path).fingerprint


def test_images_that_a_table_names_are_part_of_the_data_set(tmp_path: Path) -> None:
    with_paths(tmp_path)
    before = loaded(table(), tmp_path)
    picture(7777).save(tmp_path / "photos [new]" / "0.png")
    after = loaded(table(), tmp_path)
    assert before.fingerprint != after.fingerprint
    assert (before.images != after.images).any((1, 2, 3)).sum() == 1


def test_the_same_table_in_two_places_has_the_images_of_each(tmp_path: Path) -> None:
    for shift, place in ((0, "one"), (5000, "two")):
        with_paths(tmp_path / place, shift)
    one, two = (tmp_path / place / "birds.parquet" for place in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    first, second = (loaded(table(parquet=str(each)), tmp_path) for each in (one, two))
    assert (first.images != second.images).any((1, 2, 3)).all()


def test_masks_that_a_table_names_are_part_of_the_data_set(tmp_path: Path) -> None:
    def masked(seed: int) -> None:
        for row in ROWS:
            Image.fromarray(object_mask(seed)).save(tmp_path / f"{row}.png")

    masked(3)
    frame(outline=[{"bytes": None, "path": f"{row}.png"} for row in ROWS]).to_parquet(tmp_path / "birds.parquet")
    before = loaded(table(mask="outline"), tmp_path)
    masked(4)
    assert before.fingerprint != loaded(table(mask="outline"), tmp_path).fingerprint


def test_an_image_that_a_table_names_and_that_is_not_there_is_named_with_its_row(tmp_path: Path) -> None:
    with_paths(tmp_path)
    (tmp_path / "photos [new]" / "3.png").unlink()
    said = refused(tmp_path)
    assert f"{tmp_path}/birds.parquet: row 3: cannot be read as an image" in said
    assert "No such file" in said


def test_a_shard_without_rows_is_read(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    frame().to_parquet(tmp_path / "birds" / "1.parquet")
    frame(range(0)).to_parquet(tmp_path / "birds" / "0.parquet")
    whole = loaded(table(parquet="birds/1.parquet"), tmp_path)
    assert loaded(table(parquet="birds/*.parquet"), tmp_path).fingerprint == whole.fingerprint


@pytest.mark.parametrize("name", ["birds [2024]", "what?", "all*"])
def test_a_folder_may_be_called_like_a_pattern(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    frame().to_parquet(folder / "0.parquet")
    assert len(loaded(table(parquet=f"{name}/*.parquet"), tmp_path).images) == len(ROWS)
    assert len(loaded(table(parquet="*.parquet"), folder).images) == len(ROWS)


def test_shards_may_have_classes_of_their_own_for_each_split(tmp_path: Path) -> None:
    for split, names in LISTS.items():
        frame([row for row in ROWS if bird(row) in names]).to_parquet(tmp_path / f"{split}.parquet")
    own = {"classes": None, "splits": {**{split: split for split in LISTS}, "disjoint": True}}
    data = loaded(table(parquet={split: f"{split}.parquet" for split in LISTS}, **own), tmp_path)
    assert {split: each.names for split, each in data.tables.items()} == {
        split: tuple(sorted(names)) for split, names in LISTS.items()
    }
    frame().to_parquet(tmp_path / "test.parquet")
    with pytest.raises(UserError, match="is in train and in test, and with 'disjoint' splits share no class"):
        loaded(table(parquet={split: f"{split}.parquet" for split in LISTS}, **own), tmp_path)


def test_a_broken_mask_is_named_with_its_row_and_column(tmp_path: Path) -> None:
    masks = [encoded(Image.fromarray(object_mask(number(row)))) for row in ROWS]
    masks[3] = encoded(picture(1))
    frame(outline=masks).to_parquet(tmp_path / "birds.parquet")
    said = f"{tmp_path}/birds.parquet: row 3, column 'outline': the mask has colours"
    assert said in refused(tmp_path, mask="outline")


def test_files_that_are_no_parquet_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.parquet").write_bytes(b"nonsense")
    frame().to_parquet(tmp_path / "c.parquet")
    message = refused(tmp_path, parquet="*.parquet")
    for name in ("a", "b"):
        assert f"{tmp_path}/{name}.parquet cannot be read as a Parquet file" in message


def test_a_pattern_without_files_is_named_with_the_places_looked_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file 'birds/\*.parquet'") as caught:
        loaded(table(parquet="birds/*.parquet"), tmp_path, tmp_path)
    assert f"{tmp_path}/birds/*.parquet" in str(caught.value)


def test_an_edited_table_is_decoded_anew(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "birds.parquet")
    first = loaded(table(), tmp_path)
    frame(image=[encoded(picture(5)), *frame()["image"][1:]]).to_parquet(tmp_path / "birds.parquet")
    assert loaded(table(), tmp_path).fingerprint != first.fingerprint


# The hub.


def on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parts: dict[str, Any]) -> list[Any]:
    """`datasets.load_dataset` gives these rows; the calls of it."""
    import datasets

    calls: list[Any] = []

    def load(*words: Any, **named: Any) -> Any:
        calls.append((words, {key: value for key, value in named.items() if key != "cache_dir"}))
        assert Path(named["cache_dir"]).is_relative_to(tmp_path / "cache"), "the copies of the rows go with the build"
        found = {}
        for part, rows in parts.items():
            frame(rows).to_parquet(tmp_path / "hub.parquet")
            found[part] = datasets.Dataset.from_parquet(str(tmp_path / "hub.parquet"), cache_dir=named["cache_dir"])
        return datasets.DatasetDict(found)

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_a_hub_repository_is_fetched_once_with_all_its_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = on_the_hub(monkeypatch, tmp_path, {"train": range(27), "test": range(27, 36)})
    hub = table(parquet=None, hub="me/birds", config="small", revision="v1")
    data = loaded(hub, tmp_path)
    assert calls == [(("me/birds", "small"), {"revision": "v1"})]
    assert (len(data.images), data.image_ids[0], data.image_ids[3]) == (36, "train:2", "test:2")
    assert data.source == "the user's own, me/birds small v1 on the Hugging Face hub"
    assert load_dataset(hub, None, tmp_path / "cache", download=False).fingerprint == data.fingerprint
    assert len(calls) == 1
    loaded(table(parquet=None, hub="me/birds", config="small", revision="v2"), tmp_path)
    assert len(calls) == 2


def test_a_hub_repository_may_be_taken_by_its_own_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_hub(monkeypatch, tmp_path, {"train": range(27), "test": range(27, 36), "other": [0]})
    hub = {"parquet": None, "hub": "me/birds", "classes": None}
    data = loaded(table(**hub, splits=PART), tmp_path)
    assert {split: len(each.members) for split, each in data.tables.items()} == {"train": 27, "test": 9}
    with pytest.raises(UserError, match="there is no split 'tes'; did you mean 'test'"):
        loaded(table(**hub, splits={"train": "train", "test": "tes"}), tmp_path)


def test_a_split_of_a_hub_repository_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here one without labels, as competitions have them."""
    on_the_hub(monkeypatch, tmp_path, {"train": range(27), "validation": range(27, 36), "test": range(36)})
    hub = {"parquet": None, "hub": "me/birds"}
    data = loaded(table(**hub, hub_splits=["train", "validation"]), tmp_path)
    assert {each.partition(":")[0] for each in data.image_ids} == {"train", "validation"}
    assert data.fingerprint != loaded(table(**hub), tmp_path).fingerprint
    with pytest.raises(UserError, match="hub_splits: there is no split 'tain'; did you mean 'train'"):
        loaded(table(**hub, hub_splits=["tain"]), tmp_path)


def test_hidden_labels_that_are_null_are_refused_with_the_key_that_leaves_a_split_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    as_the_hub_stores_it(tmp_path / "hidden.parquet", [None] * len(ROWS))
    rows = datasets.Dataset.from_parquet(str(tmp_path / "hidden.parquet"), cache_dir=str(tmp_path / "arrow"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict({"test": rows}))
    message = refused(tmp_path, parquet=None, hub="me/birds")
    assert "me/birds, split test: row 0: the label is null (where the labels of a split are hidden, " in message
    assert "'hub_splits' names those that are used" in message


def test_a_hub_that_cannot_be_reached_says_so_and_how_to_use_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def fail(*words: Any, **named: Any) -> Any:
        raise ConnectionError("Couldn't reach 'me/birds' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    message = refused(tmp_path, parquet=None, hub="me/birds")
    assert "(me/birds on the Hugging Face hub) cannot be loaded: Couldn't reach 'me/birds' on the Hub" in message
    assert "hf download me/birds --repo-type dataset --local-dir DIR" in message
    assert "parquet: DIR/**/*.parquet" in message


def test_what_was_not_fetched_is_not_fetched_where_that_is_not_allowed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has not been fetched yet"):
        load_dataset(table(parquet=None, hub="me/birds"), None, tmp_path / "cache", download=False)


def test_a_folder_is_not_taken_for_a_hub_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me/birds").mkdir(parents=True)
    assert "there is a folder 'me/birds' here" in refused(tmp_path, parquet=None, hub="me/birds")
