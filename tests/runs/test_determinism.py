"""The same command gives the same record, whatever the process was doing, in whatever order, with whatever hash seed.

In CI one or two methods of each kind of protocol are run twice; FUZZ=2 runs every method on every shipped protocol.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import cli
from harness.data.dataset import Dataset
from harness.episodes.plan import plan_episodes
from harness.episodes.source import EpisodeSource
from harness.evaluation import evaluate
from harness.method.options import resolved_options
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.load import load_protocol
from harness.protocol.models import AnyProtocol
from harness.records import provenance
from harness.records.parts import Code
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.training.recipe import budget_hash
from harness.training.recipe_file import load_budget, recipe_path
from harness.util.shipped_files import protocol_files
from methods import BUILT_IN
from tests.helpers import runs as tiny_runs
from tests.helpers.mutations import SCALE

pytestmark = pytest.mark.slow

SHIPPED = {name: load_protocol(name).protocol for name in protocol_files()}
CHOSEN = [
    ("opn", "cifarfs_5way_online"),
    ("maml", "omniglot_5way_iid"),
    ("cl_lstm", "omniglot_delay4"),
    ("anml", "omniglot_continual5"),
    ("protonet", "miniimagenet_5way_1shot"),
    ("llama", "miniimagenet_5way_1shot"),
    ("cl_unet", "fss1000_plain"),
    ("resnet20", "cifar10_supervised"),
]
EVERY = [
    (method, name) for method in BUILT_IN for name in SHIPPED if SHIPPED[name].kind in load_method(method).cls.kinds
]


@cache
def dataset(name: str) -> Dataset:
    # Large images take their time to be drawn, and their protocols ask for few.
    return tiny_dataset(name, *{"fss1000": (4, 10), "mini_imagenet": (6, 20)}.get(name, (20, 25)))


def prepared(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Runs are on random pixels in `folder`."""
    patch.setattr(resolve, "load_dataset", lambda name, **_: dataset(name))
    patch.setattr(provenance, "code", lambda: Code(revision=None, dirty=None))
    patch.chdir(folder)


def ran(method: str, protocol: str, out: str) -> tuple[dict[str, Any], bytes, bytes]:
    """The record of a smoke run without its times, its scores and its weights."""
    words = ["run", protocol, "--method", method, "--budget", "smoke", "--test-episodes", "3", "--threads", "1"]
    assert cli.main([*words, "--no-board", "--out", out, "--cache", f"{out}/cache"]) == 0
    return results(Path(out))


def results(out: Path) -> tuple[dict[str, Any], bytes, bytes]:
    """The record of the one run below a folder, without its times, its scores and its weights."""
    (path,) = out.glob("*/*/record.json")
    record = json.loads(path.read_text())
    for key in ("finished", "train_seconds", "score_seconds", "command"):
        del record[key]
    for each in record["pretrained"]:
        del each["seconds"]
    return record, *((path.parent / name).read_bytes() for name in ("scores.npz", "weights.safetensors"))


def test_chosen_methods_are_of_every_kind() -> None:
    assert {SHIPPED[name].kind for _, name in CHOSEN} == {protocol.kind for protocol in SHIPPED.values()}
    assert set(CHOSEN) <= set(EVERY)


@pytest.mark.parametrize(("method", "name"), CHOSEN if SCALE == 1 else EVERY)
def test_the_same_command_gives_the_same_record(
    method: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also after other random numbers were drawn, and after other work in the same process."""
    prepared(monkeypatch, tmp_path)
    found = []
    for out, seed in (("one", 1), ("two", 2)):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        found.append(ran(method, name, out))
        torch.randn(1000 * seed).sort()
    assert found[0] == found[1]


SIMPLE = {
    "omniglot_5way_online": ["count", "copy_last", "majority", "nearest_pixel"],
    "cifarfs_delay5": ["count", "nearest_pixel"],
    "omniglot_continual5": ["nearest_pixel"],
    "cifarfs_5way_1shot": ["nearest_pixel"],
    "fss1000_distractors": ["copy_last_mask", "mean_mask"],
    "cifar10_supervised": ["chance"],
}
LEARNED = {
    "cifarfs_delay5": ["cl_lstm", "opn"],
    "omniglot_5way_online": ["lstm"],
    "omniglot_continual5": ["anml"],
    "cifarfs_5way_1shot": ["protonet"],
    "fss1000_distractors": ["cl_unet"],
    "cifar10_supervised": ["resnet20"],
}


def scores_of(method: str, protocol: AnyProtocol, episodes: int, **options: Any) -> dict[str, np.ndarray]:
    assert isinstance(protocol.dataset, str)
    data, cls = dataset(protocol.dataset), load_method(method).cls
    task = task_for(cls, protocol, data.card.image_shape, data.card.classes["train"])
    built = build_method(cls, task, resolved_options(cls, options), 0)
    return evaluate.evaluate(built, EpisodeSource(data), protocol, "test", episodes)


def in_batches_of(size: int, method: str, name: str) -> dict[str, np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "BATCH", size)
        patch.setattr(evaluate, "SINGLES", size)
        found = load_method(method)
        smoke = load_budget(recipe_path(method, found.own_file), load_protocol(name), "smoke").options
        return scores_of(method, SHIPPED[name], 6, **(smoke if method in LEARNED.get(name, []) else {}))


@pytest.mark.parametrize(("name", "method"), [(name, each) for name, found in SIMPLE.items() for each in found])
def test_scores_of_simple_learners_do_not_depend_on_the_batch(name: str, method: str) -> None:
    one, some, all_at_once = (in_batches_of(size, method, name) for size in (1, 4, 6))
    for key, values in one.items():
        assert np.array_equal(values, some[key]), key
        assert np.array_equal(values, all_at_once[key]), key


@pytest.mark.parametrize(("name", "method"), [(name, each) for name, found in LEARNED.items() for each in found])
def test_scores_of_nets_hang_on_the_batch_by_rounding_alone(name: str, method: str) -> None:
    """Kernels for other shapes round otherwise, which can turn a near tie; `evaluate` therefore keeps its shapes."""
    one, some = (in_batches_of(size, method, name) for size in (2, 6))
    for key, values in one.items():
        assert values.shape == some[key].shape
        differing = np.abs(values - some[key]) > 1e-3
        assert differing.mean() < 0.03, key


@pytest.mark.parametrize("name", SIMPLE)
def test_episodes_and_simple_scores_do_not_depend_on_the_number_of_threads(name: str) -> None:
    protocol, method = SHIPPED[name], SIMPLE[name][0]
    assert isinstance(protocol.dataset, str)
    source = EpisodeSource(dataset(protocol.dataset))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(
                (source.episodes(protocol, "train", 5, [4, 1, 7], ("flip", "crop")), scores_of(method, protocol, 6))
            )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0].x, found[1][0].x)
    assert torch.equal(found[0][0].target, found[1][0].target)
    assert all(np.array_equal(values, found[1][1][key]) for key, values in found[0][1].items())


@pytest.mark.parametrize("name", protocol_files())
def test_an_episode_is_the_same_in_any_order_and_company(name: str) -> None:
    protocol = SHIPPED[name]
    assert isinstance(protocol.dataset, str)
    source = EpisodeSource(dataset(protocol.dataset))
    together = source.episodes(protocol, "train", 3, [0, 1, 2, 3], ("flip",))
    backwards = source.episodes(protocol, "train", 3, [3, 2, 1, 0], ("flip",))
    alone = EpisodeSource(dataset(protocol.dataset)).episodes(protocol, "train", 3, [2], ("flip",))
    assert torch.equal(together.x, backwards.x.flip(1))
    assert torch.equal(together.target, backwards.target.flip(1))
    assert torch.equal(together.x[:, 2:3], alone.x)
    assert torch.equal(together.target[:, 2:3], alone.target)
    assert not torch.equal(together.x[:, 0], together.x[:, 1])


def fresh_process_results(folder: Path) -> None:
    """Prints, in a process of its own, everything that a hash seed could change (see below)."""
    torch.set_num_threads(1)
    outcome: dict[str, Any] = {}
    for name, protocol in SHIPPED.items():
        assert isinstance(protocol.dataset, str)
        plan = plan_episodes(protocol, dataset(protocol.dataset).tables["test"], "test", 0, [0, 5])
        outcome[name] = [protocol.digest, plan.image.tolist(), plan.target.tolist()]
    for method in BUILT_IN:
        found = load_method(method)
        fitting = [name for name in SHIPPED if SHIPPED[name].kind in found.cls.kinds]
        loaded = load_protocol(fitting[0])
        path = recipe_path(method, found.own_file)
        outcome[method] = budget_hash(load_budget(path, loaded, "full"))
    with pytest.MonkeyPatch.context() as patch:
        prepared(patch, folder)
        tiny_runs.written(folder)
        for name in tiny_runs.RUNS:
            assert cli.main(tiny_runs.words(name, "--no-board", "--out", name)) == 0
            record, scores, weights = results(Path(name))
            outcome[f"run {name}"] = [record, hashlib.sha256(scores).hexdigest(), hashlib.sha256(weights).hexdigest()]
    print("told:", json.dumps(outcome, sort_keys=True))


def test_nothing_depends_on_the_hash_seed_of_python(tmp_path: Path) -> None:
    """Digests, plans, recipes' hashes and whole runs (names, records, scores, weights) under two PYTHONHASHSEEDs."""
    found = []
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "tests.runs.test_determinism", str(tmp_path / seed)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr
        found.append(next(line for line in done.stdout.splitlines() if line.startswith("told:")))
    assert found[0] == found[1]


if __name__ == "__main__":
    fresh_process_results(Path(sys.argv[1]))
