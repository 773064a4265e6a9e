"""Scoring: per episode, whatever is asked for beside it, and without touching the method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.episodes.plan import plan_episodes
from harness.episodes.source import EpisodeSource
from harness.evaluation import evaluate as module
from harness.evaluation.evaluate import episode_numbers, evaluate, most_episodes, whole_test
from harness.evaluation.score import metrics
from harness.method.interface import CLASSES, MASKS, Feedback, Method, State
from harness.method.registry import build_method, load_method, task_for
from harness.testing import tiny_dataset
from harness.util.errors import UserError
from harness.util.progress import Task
from tests.helpers.plans import of_kind
from tests.helpers.training import training

OF_EACH_KIND: dict[str, Any] = {
    "online_few_shot": of_kind("online_few_shot", "glyphs", ways=3, presentations=3),
    "delayed_label": of_kind("delayed_label", "glyphs", ways=3, presentations=3, label_delay=3),
    "continual": of_kind("continual", "glyphs", subtasks=3, shots=2, queries=4),
    "segmentation_distractors": of_kind("segmentation_distractors", "scenes", presentations=3),
    "n_way_k_shot": of_kind("n_way_k_shot", "glyphs", ways=3, shots=2, queries=4),
    "supervised": of_kind("supervised", "objects_supervised"),
}
SOURCES = {name: EpisodeSource(tiny_dataset(name)) for name in ("glyphs", "scenes", "objects_supervised")}


class Ink(Method):
    """Its answers move with the image shown and with how often it was called; of every kind."""

    kinds = CLASSES + MASKS

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state + feedback.target.flatten(1).float().mean(1) if feedback.target.dim() > 1 else state + 1

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        ink = x.flatten(1)[:, ::5].sum(1) + state
        if self.task.kind in MASKS:
            return x[:, :1] - ink.view(-1, 1, 1, 1) % 1, state
        return torch.stack([torch.sin(ink * (k + 1)) for k in range(self.task.ways)], 1), state


def ink_of(kind: str) -> tuple[Method, EpisodeSource, Any]:
    protocol = OF_EACH_KIND[kind]
    source = SOURCES[protocol.dataset]
    shape = source.dataset.card.image_shape
    return Ink(task_for(Ink, protocol, shape, len(source.dataset.tables["test"].names))), source, protocol


@pytest.mark.parametrize("kind", OF_EACH_KIND)
def test_an_episodes_score_does_not_depend_on_how_many_are_asked_for(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(module, "SINGLES", 4)
    method, source, protocol = ink_of(kind)
    many = evaluate(method, source, protocol, "test", 48)
    few = evaluate(method, source, protocol, "test", 5, of=48 if protocol.supervised else None)
    assert many.keys() == few.keys()
    for name, values in few.items():
        assert len(many[name]) == 48
        assert np.array_equal(values, many[name][:5]), name
    assert len(np.unique(np.concatenate([values.ravel() for values in many.values()]))) > 1


@pytest.mark.parametrize("kind", OF_EACH_KIND)
def test_batches_are_bounded_by_the_values_of_their_images(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, source, protocol = ink_of(kind)
    sizes: list[int] = []
    episodes = EpisodeSource.episodes

    def counted(self: EpisodeSource, *args: Any) -> Any:
        found = episodes(self, *args)
        sizes.append(found.x.shape[1])
        return found

    monkeypatch.setattr(EpisodeSource, "episodes", counted)
    steps = plan_episodes(protocol, source.dataset.tables["test"], "test", 0, [0]).steps
    monkeypatch.setattr(module, "PIXELS", 3 * steps * int(np.prod(source.dataset.card.image_shape)))
    evaluate(method, source, protocol, "test", 7)
    assert sizes == [3, 3, 3], "a last batch is filled up"


def test_scoring_changes_nothing_in_the_method_and_needs_no_gradient(tmp_path: Path) -> None:
    each = training(tmp_path)
    each.method.train()
    before = {name: tensor.clone() for name, tensor in each.method.state_dict().items()}
    seen = []
    hook = each.method.classify.register_forward_hook(
        lambda net, _, out: seen.append((net.training, out.requires_grad))
    )
    evaluate(each.method, each.source, each.protocol, "test", 3)
    hook.remove()
    assert set(seen) == {(False, False)}
    assert each.method.training
    for name, tensor in each.method.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(("episodes", "wanted"), [(5, [0, 9, 19, 28, 38]), (48, list(range(48)))])
def test_a_few_images_of_a_supervised_split_are_from_all_over_it(
    episodes: int, wanted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SINGLES", 4)
    method, source, protocol = ink_of("supervised")
    whole = evaluate(method, source, protocol, "test", 48)
    assert episode_numbers(protocol, source.dataset, "test", np.arange(episodes), episodes).tolist() == wanted
    for name, values in evaluate(method, source, protocol, "test", episodes).items():
        assert np.array_equal(values, whole[name][wanted]), name
    for name, values in evaluate(method, source, protocol, "test", 3, of=episodes).items():
        assert np.array_equal(values, whole[name][wanted[:3]]), name
    for name, values in evaluate(method, source, protocol, "test", episodes, batches=[1]).items():
        assert np.array_equal(values, whole[name][wanted[4:8]]), name
    with pytest.raises(UserError, match="episode 48 does not exist"):
        evaluate(method, source, protocol, "test", 49)
    assert [most_episodes(protocol, source.dataset, "test", each) for each in (47, 49)] == [47, 48]


def test_where_episodes_are_drawn_a_few_are_the_first() -> None:
    method, source, protocol = ink_of("online_few_shot")
    few, more = (evaluate(method, source, protocol, "test", each) for each in (5, 9))
    for name, values in few.items():
        assert np.array_equal(values, more[name][:5]), name
    assert most_episodes(protocol, source.dataset, "test", 10**6) == 10**6


def test_progress_counts_every_episode_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    each = training(tmp_path)
    counted: list[int] = []
    monkeypatch.setattr(Task, "advance", lambda _, count: counted.append(count))
    evaluate(each.method, each.source, each.protocol, "test", 10)
    assert counted == [4, 4, 2]


def test_copying_the_last_label_of_a_continual_stream_knows_the_last_subtask_and_no_other() -> None:
    protocol = OF_EACH_KIND["continual"]
    cls = load_method("copy_last").cls
    method = build_method(cls, task_for(cls, protocol, (1, 28, 28)), {}, 0)
    found = metrics(protocol, evaluate(method, SOURCES["glyphs"], protocol, "test", 20))
    values = {name: value[0] for name, value in found.items()}
    assert values == {
        "query_accuracy": pytest.approx(100 / 3),
        "query_accuracy@earlier": 0,
        "query_accuracy@last": 100,
    }


def test_a_whole_test_is_as_many_episodes_as_the_protocol_says_or_as_there_are_images() -> None:
    assert whole_test(OF_EACH_KIND["continual"], SOURCES["glyphs"].dataset) == 2000
    assert whole_test(OF_EACH_KIND["supervised"], SOURCES["objects_supervised"].dataset) == 48


def test_a_split_that_the_data_set_lacks_is_refused() -> None:
    method, source, protocol = ink_of("supervised")
    with pytest.raises(UserError, match="'objects_supervised' has no validation split; it has train, test"):
        evaluate(method, source, protocol, "validation", 3)
