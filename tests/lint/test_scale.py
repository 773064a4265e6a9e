"""Many classes, images and steps: time and memory grow with their number and not with its square."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from harness.cli import main
from harness.data.cache import fingerprint
from harness.data.dataset import ClassTable, Dataset, card_table
from harness.data.user import items
from harness.data.user.items import Item
from harness.episodes.plan import plan_episodes
from harness.episodes.plans.drawing import earlier_presentations
from harness.lint import lint
from harness.lint.label_only import _best_period
from harness.lint.planned import planned
from harness.protocol.load import load_protocol
from harness.protocol.models import PROTOCOL
from harness.util.errors import UserError
from tests.helpers.commands import within_seconds

CLASSES = {"train": 6000, "validation": 2000, "test": 2000}
IMAGES = 10  # of a class
TEXT = """\
kind: online_few_shot
title: many classes
dataset:
  name: many
  folder: photos
  size: 8
  channels: 1
  classes: {train: train.txt, validation: validation.txt, test: test.txt}
episode: {ways: 5, presentations: 8}
scoring: {shots: [1, 5], test_episodes: 1000}
"""


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """The classes of each split, in files beside the protocol `many.yaml` in the working directory."""
    monkeypatch.chdir(tmp_path)
    found = {split: tuple(f"{split}_{number:05d}" for number in range(count)) for split, count in CLASSES.items()}
    for split, each in found.items():
        Path(f"{split}.txt").write_text("\n".join(each))
    Path("many.yaml").write_text(TEXT)
    return found


def many(names: dict[str, tuple[str, ...]]) -> Dataset:
    """100 000 images of which nine in ten are alike."""
    card = load_protocol("many.yaml").protocol.card
    total = IMAGES * sum(CLASSES.values())
    images = np.zeros((total, 1, 8, 8), np.uint8)
    numbers = np.arange(1, total // IMAGES + 1, dtype="<u4").view("u1").reshape(-1, 4)
    images.reshape(total, -1)[::IMAGES, :4] = numbers
    tables, first = {}, 0
    for split, each in names.items():
        count = IMAGES * len(each)
        tables[split] = ClassTable(
            each,
            np.arange(len(each) + 1, dtype=np.int64) * IMAGES,
            np.arange(first, first + count, dtype=np.int32),
            np.zeros(len(each), np.int8),
        )
        first += count
    ids = tuple(map(str, range(total)))
    return Dataset(card, images, ids, tables, fingerprint(images, tables), "made up")


def test_ten_thousand_classes_and_a_hundred_thousand_images(
    names: dict[str, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = many(names)
    assert (len(dataset.images), sum(map(len, names.values()))) == (100_000, 10_000)
    monkeypatch.setattr("harness.data.open_dataset.load_dataset", lambda *_, **__: dataset)
    with within_seconds(busy=30):
        assert main(["validate", "many.yaml"]) == 0
        assert main(["lint", "many.yaml"]) == 0
        assert main(["show", "many.yaml"]) == 0
    said = capsys.readouterr().out
    assert "54000 of 60000 images of train are also in validation, pixel by pixel" in said
    assert "53999 of 60000 images of train are the same as an earlier one" in said
    with within_seconds(busy=10):
        plan = plan_episodes(load_protocol("many.yaml").protocol, dataset.tables["train"], "train", 0, range(2000))
    assert len(np.unique(plan.classes)) > 4000


def test_ten_thousand_classes_that_are_all_spelt_otherwise(names: dict[str, tuple[str, ...]]) -> None:
    data = load_protocol("many.yaml").protocol.dataset
    assert not isinstance(data, str)
    found: dict[str, dict[str, list[Item]]] = {
        "": {each.replace("_", "-"): [] for split in names.values() for each in split}
    }
    with within_seconds(busy=10), pytest.raises(UserError) as caught:
        items.grouped(data, found, "photos")
    lines = str(caught.value).splitlines()
    assert lines[-1] == "  and 9990 more"
    assert all("did you mean '" in line for line in lines[1:-1])


def test_long_episodes_are_linted_in_a_time_that_grows_with_their_steps() -> None:
    """Ten thousand steps: all their periods, or all pairs of steps and classes, would take hours and gigabytes."""
    episode = {"ways": 16, "presentations": 600, "order": "cyclic", "label_delay": 50}
    protocol = PROTOCOL.validate_python(
        {
            "kind": "delayed_label",
            "title": "x",
            "dataset": "cifar_fs",
            "episode": episode,
            "scoring": {"shots": [100]},
        }
    )
    table = card_table(protocol.card, "test")
    tracemalloc.start()
    with within_seconds(busy=20):
        plans = list(planned(protocol, table))
        period = _best_period(plans, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert period == 64, "the smallest multiple of the period that is at least the delay"
    assert peak < 300e6


def test_a_protocol_of_long_episodes_has_its_period_found(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(
        "kind: online_few_shot\ntitle: x\ndataset: glyphs\nepisode: {ways: 50, presentations: 20, order: cyclic}\n"
        "scoring: {shots: [5]}\n"
    )
    with within_seconds(busy=30):
        messages = [each.message for each in lint(load_protocol(path), None)]
    assert any("'the label of 50 steps ago'" in each and "earns 100.0 %" in each for each in messages)


@pytest.mark.parametrize("ways", [1, 2, 7, 300])
@pytest.mark.parametrize("delay", [1, 2, 5, 59, 60, 1000])
def test_earlier_presentations_are_counted_as_one_counts_them(ways: int, delay: int) -> None:
    target = np.random.default_rng(ways).integers(0, ways, (4, 60))
    before, known = earlier_presentations(target, ways, delay)
    for b, t in np.ndindex(target.shape):
        assert before[b, t] == (target[b, :t] == target[b, t]).sum()
        assert known[b, t] == (target[b, : max(0, t - delay + 1)] == target[b, t]).sum()
