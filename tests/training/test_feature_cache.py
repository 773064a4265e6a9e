"""Shared features: trained once, kept by what they are a function of, and reused without a trace in the weights."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import cli
from harness.episodes.source import EpisodeSource
from harness.method.interface import Task
from harness.method.registry import build_method, load_method
from harness.protocol.models import PROTOCOL
from harness.runs import resolve
from harness.testing import tiny_dataset
from harness.training import cached_stage
from harness.training.cached_stage import finished_pretraining
from harness.training.feature_cache import FeatureCache
from harness.training.loop import train
from harness.training.objectives import ClassesObjective
from harness.training.recipe import Budget
from harness.training.stages import begin_stage
from harness.training.state import Limits, Progress, Training
from harness.util.errors import UserError
from harness.util.tensor_files import load_tensors
from tests.helpers.training import assert_same, weights

OPTIONS = {"channels": 4, "resolution": 16}
CLASSES = {"name": "features", "objective": "classes", "episodes": 12, "batch": 4, "lr": 1e-2}
HEAD = {"name": "head", "objective": "head", "episodes": 6}
EPISODES = {"name": "episodes", "episodes": 4}


def trained_on(
    folder: Path,
    method: str = "ppa",
    stages: list[dict[str, Any]] | None = None,
    seed: int = 0,
    shots: int = 1,
    said: list[str] | None = None,
    limits: Limits | None = None,
    **changes: Any,
) -> Training:
    """A training that has not begun, in `folder`, with the cache beside it."""
    folder.mkdir(exist_ok=True)
    data = {"kind": "n_way_k_shot", "title": "tiny", "dataset": "objects"}
    protocol = PROTOCOL.validate_python({**data, "episode": {"ways": 3, "shots": shots, "queries": 2}})
    source = EpisodeSource(tiny_dataset("objects"))
    task = Task(3, (3, 32, 32), "n_way_k_shot", None, len(source.dataset.tables["train"].names))
    budget = {"batch": 2, "stages": stages or [CLASSES, HEAD, EPISODES], "augment": ["flip"], **changes}
    words: list[str] = [] if said is None else said
    return Training(
        build_method(load_method(method).cls, task, OPTIONS, seed),
        source,
        protocol,
        Budget.model_validate(budget),
        seed,
        folder / "checkpoint.safetensors",
        {},
        limits or Limits(checkpoint_seconds=1e9),
        FeatureCache(folder.parent / "cache", words.append),
    )


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ppa", "bauer", "gidaris", "deml", "norml"])
def test_a_run_that_reuses_ends_with_the_bits_of_one_that_trains(tmp_path: Path, method: str) -> None:
    stages = [CLASSES, EPISODES] if method == "bauer" else [CLASSES, HEAD, EPISODES]  # it has nothing after features
    alone = replace(trained_on(tmp_path / "alone", method, stages), cache=None)
    first, second = trained_on(tmp_path / "first", method, stages), trained_on(tmp_path / "second", method, stages)
    counts = [train(each) for each in (alone, first, second)]
    assert_same(weights(first), weights(alone))
    assert_same(weights(second), weights(alone))
    assert [each.episodes for each in counts] == [sum(int(str(each["episodes"])) for each in stages)] * 3
    assert [each.updates for each in counts] == [8 if HEAD in stages else 5] * 3
    numbers = [finished_pretraining(each) for each in counts]
    assert numbers[0] == []
    assert [each[0]["reused"] for each in numbers[1:]] == [False, True]
    assert {(each[0]["episodes"], each[0]["updates"]) for each in numbers[1:]} == {(12, 3)}
    assert numbers[1][0]["key"] == numbers[2][0]["key"]


def test_the_words_say_what_was_reused_and_what_it_cost(tmp_path: Path) -> None:
    said: list[str] = []
    train(trained_on(tmp_path / "first", said=said))
    key = entries(tmp_path)[0].stem
    assert said == [f"features: kept in the cache ({key[:16]})"]
    train(trained_on(tmp_path / "second", said=said))
    assert said[1].startswith(f"features: reused from the cache ({key[:16]}), trained in ")


def test_methods_with_the_same_net_share_what_one_of_them_trained(tmp_path: Path) -> None:
    """Whether they keep the layer over the features (bauer, deml) or throw it away (ppa), and for any protocol."""
    for method, shots in (("bauer", 1), ("ppa", 2), ("deml", 1)):
        each = trained_on(tmp_path / method, method, shots=shots, stages=[CLASSES])
        progress = train(each)
        assert finished_pretraining(progress)[0]["reused"] == (method != "bauer")
        if method == "bauer":
            net = {name: t for name, t in weights(each).items() if name.startswith("backbone")}
        assert_same({name: t for name, t in weights(each).items() if name.startswith("backbone")}, net)
    assert len(entries(tmp_path)) == 1
    train(trained_on(tmp_path / "gidaris", "gidaris", stages=[CLASSES]))  # another layer, another net
    assert len(entries(tmp_path)) == 2


CHANGED: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "length": {"stages": [{**CLASSES, "episodes": 16}]},
    "rate": {"stages": [{**CLASSES, "lr": 1e-3}]},
    "optimiser": {"stages": [{**CLASSES, "optimizer": {"name": "sgd"}}]},
    "schedule": {"stages": [{**CLASSES, "schedule": "cosine"}]},
    "batch": {"stages": [{**CLASSES, "batch": 6}]},
    "augmentation": {"augment": []},
    "clipping": {"clip_norm": 1.0},
    "clipping of the stage": {"stages": [{**CLASSES, "clip_norm": 0.1}]},
    "clipping of each parameter": {"clip_tensor_norm": 0.1},
    "clipping of each entry": {"clip_value": 0.01},
    "what decays": {"optimizer": {"weight_decay": 0.1, "weight_decay_of": "matrices"}},
    "what came before": {"stages": [EPISODES, CLASSES]},
}


@pytest.mark.parametrize("what", CHANGED)
def test_whatever_changes_the_features_changes_the_key(tmp_path: Path, what: str) -> None:
    train(trained_on(tmp_path / "first", stages=[CLASSES]))
    progress = train(trained_on(tmp_path / "second", **{"stages": [CLASSES], **CHANGED[what]}))
    assert not finished_pretraining(progress)[0]["reused"]
    assert len(entries(tmp_path)) == 2


ALIKE = """\
from methods.nn.backbones import Backbone as Shipped

class Backbone(Shipped):
    def forward(self, x):
        {first}
        return super().forward(x)
"""


def alike(folder: Path, first: str) -> type[Any]:
    """A class of the shipped net's name and layers in a module `alike`, which does something `first`."""
    folder.mkdir()
    (folder / "alike.py").write_text(ALIKE.format(first=first))
    spec = importlib.util.spec_from_file_location("alike", folder / "alike.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: type[Any] = module.Backbone
    return found


@pytest.mark.parametrize(
    ("first", "reused"),
    [
        ("x = x", True),
        ("x = x.flip(-2)", False),
        ("[each.requires_grad_(False) for each in list(self.parameters())[:2]]", False),  # the same features, at first
    ],
)
def test_nets_that_look_alike_share_features_only_if_their_code_is_the_same(
    first: str, reused: bool, tmp_path: Path
) -> None:
    """S4 of docs/scoring.md: the same repr, shapes and starting weights do not make the same features."""
    runs = []
    for name, said in (("one", "x = x"), ("two", first)):
        runs.append(trained_on(tmp_path / name, stages=[CLASSES]))
        net: Any = runs[-1].method.backbone
        net.__class__ = alike(tmp_path / f"code-{name}", said)
    assert repr(runs[0].method.backbone) == repr(runs[1].method.backbone)
    assert_same(weights(runs[0]), weights(runs[1]))
    train(runs[0])
    assert finished_pretraining(train(runs[1]))[0]["reused"] == reused
    assert len(entries(tmp_path)) == (1 if reused else 2)


@pytest.mark.parametrize("arithmetic", ["threads", "precision", "capability"])
def test_other_arithmetic_shares_no_features(arithmetic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4: what rounds otherwise ends with other bits, whatever ran before."""
    train(trained_on(tmp_path / "first", stages=[CLASSES]))
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        if arithmetic == "threads":
            torch.set_num_threads(threads + 1)
        elif arithmetic == "precision":
            torch.set_float32_matmul_precision("medium" if precision != "medium" else "high")
        else:
            monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
        progress = train(trained_on(tmp_path / "second", stages=[CLASSES]))
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    assert not finished_pretraining(progress)[0]["reused"]
    assert len(entries(tmp_path)) == 2


def test_names_of_stages_and_what_follows_do_not_change_the_key(tmp_path: Path) -> None:
    train(trained_on(tmp_path / "first", stages=[CLASSES]))
    progress = train(trained_on(tmp_path / "second", stages=[{**CLASSES, "name": "other"}, HEAD], batch=3))
    assert finished_pretraining(progress)[0]["reused"]


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty"])
def test_a_damaged_entry_is_set_aside_and_trained_again(tmp_path: Path, harm: str) -> None:
    first = trained_on(tmp_path / "first")
    train(first)
    (path,) = entries(tmp_path)
    raw = bytearray(path.read_bytes())
    if harm == "flipped":
        raw[-3] ^= 1
    path.write_bytes({"cut": bytes(raw[:-40]), "flipped": bytes(raw), "empty": b""}[harm])
    said: list[str] = []
    damaged = path.read_bytes()
    second = trained_on(tmp_path / "second", said=said)
    progress = train(second)
    assert_same(weights(second), weights(first))
    assert not finished_pretraining(progress)[0]["reused"]
    assert "set aside as" in said[0]
    assert path.with_name(f"{path.name}.damaged-1").read_bytes() == damaged
    assert finished_pretraining(train(trained_on(tmp_path / "third")))[0]["reused"]


def test_a_run_stopped_in_the_middle_keeps_them_once_it_is_resumed(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killing(progress: Progress, _: Training, event: str) -> None:
        if event == "saved" and progress.updates == 2:
            raise Killed

    whole = trained_on(tmp_path / "whole", seed=0)
    whole = replace(whole, cache=FeatureCache(tmp_path / "elsewhere"))
    train(whole)
    with pytest.raises(Killed):
        train(trained_on(tmp_path / "stopped", limits=Limits(checkpoint_seconds=0)), killing)
    assert entries(tmp_path) == []
    resumed = trained_on(tmp_path / "stopped")
    progress = train(resumed)
    assert_same(weights(resumed), weights(whole))
    assert len(entries(tmp_path)) == 1
    best, ours = (
        load_tensors(entries(tmp_path)[0])[0],
        load_tensors(next((tmp_path / "elsewhere").glob("*.safetensors")))[0],
    )
    assert_same(best, ours)
    assert finished_pretraining(progress)[0]["updates"] == 3


def test_what_is_resumed_on_another_machine_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor once the first machine has it back: a stage is kept only where one kind of machine made all of it."""
    on = ["first"]
    monkeypatch.setattr(cached_stage, "arithmetic_of", lambda *_: on)

    def stopping_after(updates: int) -> Callable[[Progress, Training, str], None]:
        def report(progress: Progress, _: Training, event: str) -> None:
            if event == "saved" and progress.updates == updates:
                raise KeyboardInterrupt

        return report

    for updates, machine in ((1, "first"), (2, "second")):
        on[:] = [machine]
        with pytest.raises(KeyboardInterrupt):
            train(trained_on(tmp_path / "moved", limits=Limits(checkpoint_seconds=0)), stopping_after(updates))
    on[:] = ["first"]
    progress = train(trained_on(tmp_path / "moved"))
    assert entries(tmp_path) == []
    assert [each["updates"] for each in finished_pretraining(progress)] == [3]
    assert not finished_pretraining(train(trained_on(tmp_path / "whole")))[0]["reused"]
    assert len(entries(tmp_path)) == 1


def test_a_stage_that_a_limit_cuts_short_is_neither_kept_nor_passed_over(tmp_path: Path) -> None:
    short = trained_on(tmp_path / "short", limits=Limits(episodes=8))
    progress = train(short)
    assert entries(tmp_path) == []
    assert finished_pretraining(progress) == []
    train(trained_on(tmp_path / "first"))
    again = trained_on(tmp_path / "again", limits=Limits(episodes=8))
    assert train(again).episodes == 8
    assert_same(weights(again), weights(short))


def test_a_layer_that_is_thrown_away_lasts_from_one_stage_on_classes_to_the_next(tmp_path: Path) -> None:
    each = trained_on(tmp_path / "two", stages=[CLASSES, {**CLASSES, "lr": 1e-3}])
    first = begin_stage(each, 0)
    second = begin_stage(each, 1, before=first)
    assert isinstance(second.objective, ClassesObjective)
    assert second.objective.temporary is first.objective.temporary is not None
    said: list[str] = []
    train(each)
    alone = replace(trained_on(tmp_path / "alone", stages=[CLASSES, {**CLASSES, "lr": 1e-3}]), cache=None)
    train(alone)
    reused = trained_on(tmp_path / "three", stages=[CLASSES, {**CLASSES, "lr": 1e-3}], said=said)
    train(reused)
    assert len(said) == 2
    assert_same(weights(reused), weights(alone))
    assert_same(weights(each), weights(alone))


def test_one_of_two_at_a_time_trains_and_the_other_waits(tmp_path: Path) -> None:
    first, second = trained_on(tmp_path / "first"), trained_on(tmp_path / "second")
    said: list[str] = []
    waiting = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    second = replace(second, cache=FeatureCache(tmp_path / "cache", say))
    other = threading.Thread(target=train, args=(second,))

    def begin_other(progress: Progress, _: Training, event: str) -> None:
        if event == "update" and progress.updates == 1:
            other.start()
            assert waiting.wait(30)

    train(first, begin_other)
    other.join(60)
    assert "another run is training them" in said[0]
    assert "reused from the cache" in said[1]
    assert_same(weights(second), weights(first))


def test_a_cache_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    said: list[str] = []
    each = trained_on(tmp_path / "first", said=said)
    assert train(each).done
    assert said[0].startswith("features: not kept in the cache:")


def test_a_stage_that_leaves_nothing_to_train_is_refused(tmp_path: Path) -> None:
    """Bauer et al. have nothing to learn after the features."""
    each = trained_on(tmp_path / "run", "bauer", [CLASSES, HEAD])
    with pytest.raises(UserError, match="stage 'head' has the objective 'head', which leaves Bauer nothing to train"):
        train(each)


SHARING = ("ppa", "bauer", "deml", "norml", "snail", "protonet", "matching_net", "csn")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["omniglot_5way_online", "cifarfs_5way_5shot", "miniimagenet_5way_1shot"])
def test_quick_runs_of_eight_methods_ask_for_the_same_features(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []

    def find(_: FeatureCache, key: str, *__: Any) -> None:
        requests.append(key)
        raise UserError("that is all")

    monkeypatch.setattr(FeatureCache, "find", find)
    monkeypatch.setattr(resolve, "load_dataset", lambda name, **_: tiny_dataset(name, classes=20, images=20))
    for method in SHARING:
        words = ["run", protocol, "--method", method, "--budget", "quick", "--threads", "1"]
        assert cli.main([*words, "--no-board", "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]) == 1
    assert len(requests) == len(SHARING)
    assert len(set(requests)) == 1
