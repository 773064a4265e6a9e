"""A user's own data set in a protocol file: what may be said of it, what it means, and errors at their lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from harness import testing
from harness.data.cards import CARDS
from harness.protocol.json_schema import file_schema
from harness.protocol.load import Loaded, for_data, load_protocol
from harness.protocol.models import PROTOCOL
from harness.training.recipe import When
from harness.yaml_files.document import YamlError
from tests.helpers.commands import within_seconds
from tests.helpers.own_images import LISTS, model, protocol_text

GOOD = """\
kind: online_few_shot
title: Birds of my garden
dataset:
  name: garden_birds
  folder: birds
  size: 8
  classes:
    train: [robin, wren, kite]
    validation: [owl, rook, crow]
    test:
      - jay
      - tit
      - lark
stand_in: objects
episode: {ways: 3, presentations: 4}
scoring: {shots: [1, 3], test_episodes: 6}
"""
SPLITS = "splits: {train: train, test: test}"
LISTED = GOOD[GOOD.index("  classes:") : GOOD.index("stand_in")]
WHOLE_MAPPING = GOOD[GOOD.index("dataset") : GOOD.index("stand_in")]


def written(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(path: Path) -> list[str]:
    """Every problem of a file, without the folder."""
    with pytest.raises(YamlError) as caught:
        load_protocol(path)
    return [str(each).replace(f"{path.parent}/", "") for each in caught.value.problems]


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            changed("size: 8", "siz: 8"),
            ["3:1: dataset.size: missing", "6:3: dataset.siz: unknown key. Did you mean 'size'? Allowed here: name, "],
        ),
        (changed("size: 8", "size: 0"), ["6:9: dataset.size: found 0, expected a whole number from 1 to 1024 or a "]),
        (changed("size: 8", "size: [8, x]"), ['6:13: dataset.size[1]: found "x" (text), expected a whole number']),
        (changed("size: 8", "size: [8]"), ["6:9: dataset.size: found a list of 1, expected a list of 2 whole numbers"]),
        (changed("  size: 8\n", ""), ["3:1: dataset.size: missing; expected a whole number from 1 to 1024 or a list"]),
        (changed("size: 8", "size: 8\n  channels: 2"), ["7:13: dataset.channels: found 2, expected one of 1, 3"]),
        (changed("garden_birds", "Birds"), ['4:9: dataset.name: found "Birds" (text), expected text that matches']),
        (changed("garden_birds", "omniglot"), ["4:9: dataset.name: 'omniglot' is the name of a known data set"]),
        (changed("folder: birds", "folder: 5"), ["5:11: dataset.folder: found 5, expected text or null; put it in"]),
        (
            changed("folder: birds", "parquet: 5"),
            ["5:12: dataset.parquet: found 5, expected text or a map"],
        ),
        (changed("folder: birds", "hub: birds"), ['5:8: dataset.hub: found "birds" (text), expected text that match']),
        (changed("folder: birds", "folder: birds\n  hub: a/b"), ["6:8: dataset.hub: folder is given already, and a"]),
        (changed("  folder: birds\n", ""), ["4:3: dataset: a data set needs one of folder, parquet, hub (where it li"]),
        (GOOD.replace(LISTED, ""), ["4:3: dataset: a data set needs classes or splits (what is trained and scored on"]),
        (changed("size: 8", f"size: 8\n  {SPLITS}"), ["7:11: dataset.splits: classes are given already, which split"]),
        (changed("size: 8", "size: 8\n  config: x"), ["7:11: dataset.config: only a hub repository has one"]),
        (
            changed("size: 8", "size: 8\n  hub_splits: [x]"),
            ["7:15: dataset.hub_splits: only a hub repository has them"],
        ),
        (changed("size: 8", "size: 8\n  image: x"), ["7:10: dataset.image: an image folder has no columns"]),
        (changed("size: 8", "size: 8\n  mask: m.png"), ["7:9: dataset.mask: for a folder, expected a pattern with {s"]),
        (changed("size: 8", "size: 8\n  mask: '{stem}_{x}.png'"), ["7:9: dataset.mask: for a folder, expected a patt"]),
        (changed("- tit", "- 5"), ["12:9: dataset.classes.test[1]: found 5, expected text; put it in quotes"]),
        (changed("- tit", "- no"), ["12:9: dataset.classes.test[1]: some readers take no for false"]),
        (
            changed("test:", "tset:"),
            ["7:3: dataset.classes.test: missing", "10:5: dataset.classes.tset: unknown key"],
        ),
        (changed("owl, rook, crow", ""), ["9:17: dataset.classes.validation: found an empty list, expected a list"]),
        (changed("- tit", "- robin"), ["12:9: dataset.classes.test[1]: class 'robin' is named in train too, and spl"]),
        (changed("- tit", "- jay"), ["12:9: dataset.classes.test[1]: class 'jay' is named twice"]),
        (
            changed("rook", "wren").replace("lark", "crow"),
            [
                "9:23: dataset.classes.validation[1]: class 'wren' is named in train too, and splits share no class",
                "13:9: dataset.classes.test[2]: class 'crow' is named in validation too, and splits share no class",
            ],
        ),
        (
            changed("      - tit\n", ""),
            ["14:17: episode.ways: 3 classes in an episode, but the test split of "],
        ),
        (GOOD.replace(LISTED, f"  {SPLITS}\n"), ["7:11: dataset.splits: kind online_few_shot tests on classes that w"]),
        (
            GOOD.replace(LISTED, "  splits: {train: all, test: ./all/, disjoint: true}\n"),
            ["7:30: dataset.splits.test: './all/' is train too, and splits share no image"],
        ),
        (
            changed("folder: birds", "parquet: {train: a}").replace(LISTED, "  splits: {train: train, test: tain}\n"),
            ["7:32: dataset.splits.test: parquet names no files of 'tain', did you mean 'train'? (it names train)"],
        ),
        (
            changed("folder: birds", "parquet: a").replace(LISTED, f"  {SPLITS}\n"),
            ["5:12: dataset.parquet: with splits, say which files each has, as in {train: 'a/*.parquet', test: "],
        ),
        (
            GOOD.replace(WHOLE_MAPPING, "dataset: 5\n"),
            ["3:10: dataset: found 5, e"],
        ),
        (GOOD.replace(WHOLE_MAPPING, "dataset: []\n"), ["3:10: dataset: found an"]),
        (
            GOOD.replace(WHOLE_MAPPING, "dataset: omnigot\n"),
            ["3:10: dataset: unknown data set 'omnigot'. Did you mean 'omniglot'? Known: "],
        ),
    ],
)
def test_an_error_in_the_mapping_is_reported_once_at_its_line(tmp_path: Path, text: str, said: list[str]) -> None:
    shown = refused(written(tmp_path, text))
    assert len(shown) == len(said), shown
    for line, expected in zip(shown, said, strict=True):
        assert line.startswith(f"a.yaml:{expected}")


@pytest.mark.parametrize(
    ("kind", "dataset", "said"),
    [
        ("supervised", {"classes": LISTS}, "dataset.classes: kind supervised has the same classes in train and test"),
        ("segmentation_distractors", {"classes": LISTS}, "dataset: kind segmentation_distractors needs masks"),
    ],
)
def test_a_kind_that_the_data_cannot_serve_is_refused(tmp_path: Path, kind: str, dataset: Any, said: str) -> None:
    own = {"name": "garden_birds", "folder": "birds", "size": 8, **dataset}
    episode = {} if kind == "supervised" else {"presentations": 2}
    scoring = {} if kind == "supervised" else {"shots": [1]}
    text = yaml.safe_dump({"kind": kind, "title": "t", "dataset": own, "episode": episode, "scoring": scoring})
    (problem,) = refused(written(tmp_path, text))
    assert said in problem


# Class lists in files.


def test_a_class_list_may_be_a_file_beside_the_protocol(tmp_path: Path) -> None:
    written(tmp_path, "robin\n\n  wren  \r\nkite", "lists/train.txt")
    by_file = load_protocol(written(tmp_path, changed("[robin, wren, kite]", "lists/train.txt")))
    in_line = load_protocol(written(tmp_path, GOOD, "b.yaml"))
    assert by_file.protocol == in_line.protocol
    assert by_file.protocol.digest == in_line.protocol.digest


def test_a_class_list_is_looked_for_beside_the_file_that_names_it(tmp_path: Path) -> None:
    written(tmp_path, "robin\nwren\nkite\n", "base/train.txt")
    written(tmp_path, changed("[robin, wren, kite]", "train.txt"), "base/parent.yaml")
    child = load_protocol(written(tmp_path, "extends: base/parent.yaml\n"))
    assert child.protocol.dataset.lists["train"] == ("kite", "robin", "wren")


def test_an_error_in_a_class_list_is_shown_at_its_line_there(tmp_path: Path) -> None:
    written(tmp_path, "jay\n", "train.txt")
    (problem,) = refused(written(tmp_path, changed("[robin, wren, kite]", "train.txt")))
    assert problem.startswith("a.yaml:11:9: dataset.classes.test[0]: class 'jay' is named in train too")
    written(tmp_path, "\nowl\nrobin\n", "validation.txt")
    (problem,) = refused(written(tmp_path, changed("[owl, rook, crow]", "validation.txt")))
    assert problem.startswith("validation.txt:3:1: dataset.classes.validation[1]: class 'robin' is named in train too")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file 'train.txt' to read the classes from (one class a line)"),
        (b"\n \n", "'train.txt' names no class"),
        (b"\xff\xfe", "'train.txt' is not UTF-8 text with one class a line"),
    ],
)
def test_a_class_list_that_cannot_be_read_is_reported_at_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "train.txt").write_bytes(content)
    assert refused(written(tmp_path, changed("[robin, wren, kite]", "train.txt"))) == [
        f"a.yaml:8:12: dataset.classes.train: {said}"
    ]


def test_a_file_that_is_no_list_is_reported_at_its_line_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("robin\n" + "x" * 300 + "\n")
    (problem,) = refused(written(tmp_path, changed("[robin, wren, kite]", "train.txt")))
    said = "line 2 of 'train.txt' has more than 255 characters; expected one class a line"
    assert problem == f"a.yaml:8:12: dataset.classes.train: {said}"


@pytest.mark.skipif(os.name != "posix", reason="no such files")
@pytest.mark.parametrize("kind", ["pipe", "device", "large", "folder"])
def test_a_class_list_without_an_end_is_refused(tmp_path: Path, kind: str) -> None:
    """Nothing is waited for, and no more is read than a list may have."""
    path = tmp_path / "train.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"robin\n" * 2**20)
    with within_seconds(busy=5, idle=60):
        (problem,) = refused(written(tmp_path, changed("[robin, wren, kite]", "train.txt")))
    assert problem.startswith("a.yaml:8:12: dataset.classes.train: ")
    said = {"pipe": "not a regular file", "device": "not a regular file", "folder": "it is a directory"}
    assert said.get(kind, "'train.txt' is larger than 4 MiB") in problem


@pytest.mark.parametrize("count", ["10000001", "1000000000000"])
def test_test_episodes_have_a_bound(tmp_path: Path, count: str) -> None:
    (problem,) = refused(written(tmp_path, changed("test_episodes: 6", f"test_episodes: {count}")))
    assert f"scoring.test_episodes: found {count}, expected a whole number" in problem


# What it means.


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other_birds"},
        {"size": 9},
        {"size": [8, 9]},
        {"channels": 1},
        {"mask": "{stem}_mask.png"},
        {"classes": {**LISTS, "test": ["jay", "tit", "dove"]}},
        {"classes": {key: LISTS[key] for key in ("train", "test")}},
        {"classes": {**LISTS, "train": LISTS["test"], "test": LISTS["train"]}},
    ],
)
def test_the_digest_changes_with_what_the_data_mean(change: dict[str, Any]) -> None:
    assert online(**change).digest != online().digest


@pytest.mark.parametrize(
    "change",
    [
        {"folder": "elsewhere/birds"},
        {"size": [8, 8]},
        {"channels": 3},
        {"classes": {split: names[::-1] for split, names in LISTS.items()}},
    ],
)
def test_the_digest_does_not_change_with_where_the_data_lie(change: dict[str, Any]) -> None:
    assert online(**change).digest == online().digest


def test_the_digest_of_tables_covers_columns_and_not_the_place() -> None:
    files, more = ({"folder": None, "parquet": path} for path in ("a/*.parquet", "b.parquet"))
    hub = {"folder": None, "hub": "me/birds", "config": "x", "revision": "main", "image": "image"}
    assert online(**files).digest == online(**more).digest == online(**hub).digest
    assert online(**files, label="species").digest != online(**files).digest
    assert online(**files, image="photo").digest != online(**files).digest


def online(**changes: Any) -> Any:
    return PROTOCOL.validate_python(yaml.safe_load(protocol_text(dataset=model(**changes).model_dump())))


def test_the_protocol_survives_being_written_out_and_read_again() -> None:
    protocol = online(size=[8, 9])
    again = PROTOCOL.validate_python(protocol.model_dump())
    assert again == protocol
    assert again.digest == protocol.digest


def test_before_decoding_the_card_knows_what_the_file_says() -> None:
    card = online(size=[8, 9], channels=1).card
    assert (card.name, card.image_shape, card.masks, card.disjoint, card.stand_in) == (
        "garden_birds",
        (1, 8, 9),
        False,
        True,
        False,
    )
    assert card.classes == {"train": 3, "validation": 3, "test": 3}
    assert card.images_per_class == {}


def test_the_stand_in_takes_the_place_of_own_data(tmp_path: Path) -> None:
    loaded = load_protocol(written(tmp_path, GOOD))
    assert for_data(loaded, "stand-in").dataset == "objects"
    assert loaded.protocol.data_name == "garden_birds"
    assert loaded.protocol.dataset not in CARDS


@pytest.mark.parametrize(("child", "folder"), [("title: mine\n", "base"), ("dataset: {folder: mine}\n", ".")])
def test_a_place_is_relative_to_the_file_that_says_it(tmp_path: Path, child: str, folder: str) -> None:
    written(tmp_path, GOOD, "base/parent.yaml")
    loaded = load_protocol(written(tmp_path, f"extends: base/parent.yaml\n{child}"))
    assert loaded.base == tmp_path / folder


def test_recipes_may_be_for_own_data_by_name(tmp_path: Path) -> None:
    loaded = load_protocol(written(tmp_path, GOOD))
    matching: Callable[[Loaded, bool], bool] = When(dataset=["garden_birds"]).matches
    assert matching(loaded, False)
    assert not When(dataset=["omniglot"]).matches(loaded, False)


def test_tiny_episodes_can_be_made_of_a_protocol_on_own_data() -> None:
    episodes = testing.tiny_episodes(online(size=[8, 9], channels=1))
    assert episodes.x.shape == (12, 2, 1, 8, 9)


# The JSON Schema.

CHECK = jsonschema.Draft202012Validator(file_schema())
WHOLE = yaml.safe_load(GOOD)


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        (WHOLE, True),
        ({**WHOLE, "dataset": {**WHOLE["dataset"], "classes": {"train": "train.txt", "test": ["a", "b", "c"]}}}, True),
        ({**WHOLE, "dataset": {**WHOLE["dataset"], "siz": 8}}, False),
        ({**WHOLE, "dataset": {**WHOLE["dataset"], "size": "8"}}, False),
        ({**WHOLE, "dataset": {"folder": "birds"}}, False),
        ({"extends": "a.yaml", "dataset": {"folder": "birds", "classes": {"test": ["a"]}}}, True),
        ({"extends": "a.yaml", "dataset": {"foldr": "birds"}}, False),
        ({"extends": "a.yaml", "dataset": "cifar_fs"}, True),
    ],
)
def test_the_schema_knows_own_data(data: dict[str, Any], fits: bool) -> None:
    assert CHECK.is_valid(data) == fits
