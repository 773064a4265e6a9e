"""Pages of protocols: the course of an episode, the splits with sample images, what lint finds; all of it text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import cli
from harness.data.dataset import Dataset
from harness.protocol.load import Loaded, load_protocol
from harness.report import sources
from harness.report.protocol_page import protocol_page
from harness.report.sources import Places, Subject
from harness.testing import tiny_dataset
from tests.helpers.pages import HOSTILE, check_page, text_of


def on_tiny(name: str) -> Subject:
    loaded = load_protocol(name)
    protocol = loaded.on_stand_in if loaded.protocol.masks else loaded.protocol
    return Subject(loaded, protocol, tiny_dataset(protocol.dataset, max(8, protocol.needs.classes), 20))


@pytest.mark.parametrize(
    ("name", "diagram"),
    [
        ("cifarfs_delay5", "arrows lead to where each label is revealed (the first 20 of 50 steps)"),
        ("omniglot_continual5", "Queries, the first 18 of 75"),
        ("omniglot_20way_1shot", "each image comes with its label"),
        ("fss1000_distractors", "where each mask is revealed"),
        ("cifar100_supervised", "No label is revealed"),
    ],
)
def test_every_kind_says_what_a_learner_is_given_and_when(name: str, diagram: str) -> None:
    on = on_tiny(name)
    page = protocol_page(on, Places(), thorough=False)
    check_page(page)
    text = text_of(page)
    for part in (diagram, on.protocol.title, on.protocol.digest[:12], "train: 6 of", "were not compared", "kind: "):
        assert part in text, part
    # Six classes of eight images in each split, whatever the kind.
    assert on.dataset is not None
    assert page.count("<image ") == 6 * 8 * len(on.dataset.tables)


def test_without_the_data_sizes_come_from_its_card() -> None:
    on = replace(on_tiny("cifarfs_delay5"), dataset=None, missing="the data set 'cifar_fs' is missing")
    page = protocol_page(on, Places(), "boards/cifarfs_delay5.html")
    text = text_of(page)
    assert "Without images: the data set" in text
    assert "at least" in text
    assert "<image " not in page
    assert 'href="../boards/cifarfs_delay5.html"' in page


def test_what_lint_finds_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "cyclic.yaml"
    path.write_text(
        "extends: omniglot_delay5\nepisode: {ways: 5, label_delay: 5, order: cyclic}\nscoring: {test_episodes: 50}\n"
    )
    loaded = load_protocol(path)
    text = text_of(protocol_page(Subject(loaded, loaded.protocol, None, "missing"), Places(), thorough=False))
    assert "copy_last" in text
    assert "error" in text


def test_texts_of_a_protocol_and_names_of_classes_are_text(tmp_path: Path) -> None:
    every = " ".join(HOSTILE)
    on = on_tiny("cifarfs_delay5")
    assert on.dataset is not None
    tables = {
        split: replace(table, names=tuple(HOSTILE[number % len(HOSTILE)] for number in range(len(table.names))))
        for split, table in on.dataset.tables.items()
    }
    file = tmp_path / "x.yaml"
    file.write_text(every)
    protocol = on.protocol.model_copy(update={"title": every, "notes": every})
    hostile = Subject(Loaded(every, file, protocol), protocol, replace(on.dataset, tables=tables), every)
    page = protocol_page(hostile, Places(), thorough=False)
    check_page(page)
    assert text_of(page).count(every) > 5


def test_a_report_of_a_protocol_has_its_page_and_its_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(name: str, *_: object, **__: object) -> Dataset:
        return tiny_dataset(name, classes=8, images=10)

    monkeypatch.setattr(sources, "load_dataset", tiny)
    own = tmp_path / "mine.yaml"
    own.write_text("extends: cifarfs_delay5\ntitle: My own\nscoring: {test_episodes: 20}\n")
    assert cli.main(["report", str(own), "--boards", str(tmp_path), "--out", str(tmp_path / "site")]) == 0
    written = sorted(path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*.html"))
    assert written == [Path("boards/mine.html"), Path("index.html"), Path("protocols/mine.html")]
    for path in written:
        text = (tmp_path / "site" / path).read_text(encoding="utf-8")
        check_page(text, tmp_path / "site" / path)
        assert "My own" in text
