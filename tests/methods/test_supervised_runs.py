"""Ordinary classification from data to record: a small table in CIFAR-10's layout, the stand-in, and learning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import cli
from harness.data.cards import CARDS
from harness.data.dataset import ClassTable, Dataset
from harness.data.real.cifar import CIFAR10
from harness.episodes.source import EpisodeSource
from harness.evaluation.evaluate import evaluate
from harness.evaluation.score import metrics
from harness.method.interface import Task
from harness.method.registry import build_method, load_method
from harness.protocol.models import PROTOCOL
from harness.records.record import Record
from harness.testing import tiny_dataset
from harness.training.loop import train
from harness.training.recipe import Budget
from harness.training.state import Training
from methods.nn.classifier import SUPERVISED
from tests.helpers.built_in import names_of
from tests.helpers.cifar import parquet

pytestmark = pytest.mark.slow

METHODS = names_of(lambda cls: cls.kinds == SUPERVISED)


def ran(folder: Path, *words: str) -> Record:
    """The record of a smoke run with boards and runs in a folder."""
    places = ["--out", str(folder / "runs"), "--boards", str(folder / "boards"), "--threads", "1", "--device", "cpu"]
    assert cli.main(["run", *words, "--budget", "smoke", *places]) == 0
    (path,) = (folder / "runs").glob("*/*/record.json")
    return Record.model_validate_json(path.read_text())


def test_a_table_in_cifar_10s_layout_is_trained_on_and_scored_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CARDS, "cifar10", replace(CARDS["cifar10"], images_per_class={"train": 2, "test": 1}))
    root = parquet(tmp_path / "root", archive=CIFAR10)
    words = ("cifar10_supervised", "--method", "resnet20", "--data-root", str(root), "--cache", str(tmp_path / "cache"))
    record = ran(tmp_path, *words)
    assert (record.data.name, record.data.stand_in) == ("cifar10", False)
    assert (record.train_episodes, record.test_episodes) == (64, 10)  # three passes and a bit over 20 images
    assert record.cost.parameters == 269_722
    assert "partial test" not in record.marks
    (row,) = (tmp_path / "boards" / "cifar10_supervised.jsonl").read_text().splitlines()
    assert json.loads(row)["metrics"] == record.model_dump(mode="json")["metrics"]


def test_the_stand_in_is_trained_on_and_scored_whole(tmp_path: Path, cache: Path) -> None:
    words = ("cifar100_supervised", "--method", "cl_resnet20", "--data", "stand-in", "--cache", str(cache))
    record = ran(tmp_path, *words)
    assert (record.data.name, record.data.stand_in) == ("objects_supervised", True)
    assert (record.train_episodes, record.test_episodes) == (64, 1000)


def textures() -> EpisodeSource:
    """Three classes that differ by the direction of their stripes, at any phase, under noise: 40 and 20 of each."""
    card = replace(
        tiny_dataset("objects_supervised").card,
        classes={"train": 3, "test": 3},
        images_per_class={"train": 40, "test": 20},
        image_shape=(3, 8, 8),
    )
    random = np.random.default_rng(0)
    kind = np.concatenate([np.repeat(np.arange(3), 40), np.repeat(np.arange(3), 20)])
    row, column = np.mgrid[:8, :8]
    along = np.stack([row, column, row + column])[kind]
    wave = np.sin(along * np.pi / 2 + random.uniform(0, 2 * np.pi, (180, 1, 1)))
    pixels = np.clip(128 + 60 * wave[:, None] + random.normal(0, 20, (180, 3, 8, 8)), 0, 255).astype(np.uint8)
    tables = {
        split: ClassTable(
            ("rows", "columns", "slanted"),
            np.arange(4, dtype=np.int64) * each,
            np.arange(3 * each, dtype=np.int32) + first,
            np.zeros(3, np.int8),
        )
        for split, each, first in (("train", 40, 0), ("test", 20, 120))
    }
    return EpisodeSource(Dataset(card, pixels, tuple(map(str, range(180))), tables, "none", "stripes"))


@pytest.mark.parametrize("name", METHODS)
def test_nets_learn_to_tell_textures_apart(name: str, tmp_path: Path) -> None:
    episodes = 300 if name == "vgg11" else 800  # it is the largest by far, and the fastest to learn
    source, options = textures(), {"width": 0.25} if name.startswith("cl_") else {}
    protocol = PROTOCOL.validate_python({"kind": "supervised", "title": "stripes", "dataset": "objects_supervised"})
    method = build_method(load_method(name).cls, Task(3, (3, 8, 8), "supervised"), options, 0)
    budget = Budget.model_validate(
        {
            "batch": 20,
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4},
            "stages": [{"name": "all", "episodes": episodes, "schedule": "cosine", "warmup": 5}],
        }
    )
    train(Training(method, source, protocol, budget, 0, tmp_path / "checkpoint.safetensors", {}))
    assert metrics(protocol, evaluate(method, source, protocol, "test", 60))["accuracy"][0] > 67  # guessing earns 33
