"""Isolated scoring: the same bits, nothing within reach of the method, and every end of a worker told in a sentence."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.places import data_places
from harness.episodes.source import EpisodeSource
from harness.evaluation import evaluate as module
from harness.evaluation import isolated
from harness.evaluation.evaluate import evaluate, sampled
from harness.evaluation.isolated import Bounds, Player, played, player_of, scored
from harness.method.interface import Task
from harness.method.registry import build_method, load_method, task_for
from harness.records.parts import Isolated
from harness.testing import tiny_dataset
from harness.util.confinement import BUBBLEWRAP, NAMESPACE, bubblewrap, uncovered
from harness.util.errors import AnswerError, RunError, UserError
from tests.helpers import isolated_methods
from tests.helpers.plans import of_kind

FILE = Path(isolated_methods.__file__)
PROTOCOLS: dict[str, Any] = {
    "glyphs": of_kind("delayed_label", "glyphs", ways=3, presentations=3, label_delay=2),
    "glyphs, queries": of_kind("n_way_k_shot", "glyphs", ways=3, shots=2, queries=4),
    "scenes": of_kind("segmentation_distractors", "scenes", presentations=3),
}


WAYS = {
    BUBBLEWRAP: "bubblewrap does not work here",
    NAMESPACE: "user namespaces are not allowed here",
}
"""What can confine a worker, and why a test of it is skipped."""


def only_by(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has workers confined in one way alone."""
    if way == NAMESPACE:
        monkeypatch.setattr(isolated, "bubblewrap", lambda: None)
    elif bubblewrap() is None:
        pytest.skip(WAYS[way])


def player(name: str, task: Task, **options: Any) -> Player:
    return Player(f"{FILE}:{name}", (FILE,), task, options, 0, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_worker_earns_the_bits_that_the_method_earns_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 8)
    protocol, source = PROTOCOLS[name], EpisodeSource(tiny_dataset(PROTOCOLS[name].dataset))
    loaded = load_method(f"{FILE}:Sums")
    task = task_for(loaded.cls, protocol, source.dataset.card.image_shape)
    method = build_method(loaded.cls, task, {"units": 4}, 3)
    with torch.no_grad():
        method.weight.add_(1.0)
    with played(player_of(loaded, method, {"units": 4}, 3)) as remote:
        there = evaluate(remote, source, protocol, "test", 20)
        assert remote.confined or remote.why_not
        some, numbers = sampled(source, protocol, "test", 20, 9)
        part = evaluate(remote, source, protocol, "test", 20, batches=some)
    here = evaluate(method, source, protocol, "test", 20)
    assert here.keys() == there.keys()
    for each, values in here.items():
        assert np.array_equal(values, there[each], equal_nan=True), each
        assert np.array_equal(values[numbers], part[each], equal_nan=True), each
    assert any(len(np.unique(values)) > 1 for values in here.values())


@pytest.mark.slow
def test_failures_are_reported_in_sentences_and_noise_is_thrown_away() -> None:
    task = Task(2, (1, 4, 4), "online_few_shot")
    with played(player("Trouble", task), bounds=Bounds(memory=8 << 30)) as remote:
        with pytest.raises(
            RunError, match=r"Trouble raised KeyError in start: 'no such.*isolated_methods.py, line \d+"
        ):
            remote.start(1)
        with pytest.raises(RunError, match=r"ended its process \(sys.exit\('enough'\)\) in start"):
            remote.start(2)
        remote.start(3)
        with pytest.raises(RunError, match=r"raised RuntimeError in start: .*(alloc|memory)"):
            remote.start(4)
        with pytest.raises(RunError, match=r"raised KeyboardInterrupt in start"):
            remote.start(7)
        with pytest.raises(AnswerError, match=r"Trouble.predict: the answer has shape \[9, 3\] instead of \[9, 2\]"):
            remote.predict(remote.start(9), torch.zeros(9, 1, 4, 4))
        with pytest.raises(RunError, match=r"ended with exit code 7 in start; .* printed: a last \\x1b\[2Jword$"):
            remote.start(6)


@pytest.mark.slow
def test_a_method_that_hangs_is_ended() -> None:
    task = Task(2, (1, 4, 4), "online_few_shot")
    with (
        played(player("Trouble", task), bounds=Bounds(seconds=0.2)) as remote,
        pytest.raises(RunError, match=r"gave no answer in start for 0\.2 seconds"),
    ):
        remote.start(5)
    assert remote.worker.process.returncode is not None


@pytest.mark.slow
def test_what_cannot_be_built_is_reported_in_the_words_of_building() -> None:
    with pytest.raises(UserError, match=r"Sums has no option 'unit'\. Did you mean 'units'"):  # noqa: SIM117
        with played(player("Sums", Task(2, (1, 4, 4), "online_few_shot"), unit=3)):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_worker_finds_neither_data_nor_network_nor_this_process(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_by(way, monkeypatch)
    hidden, free = tmp_path / "data", tmp_path / "free.txt"
    hidden.mkdir()
    (hidden / "secret").write_text("targets")
    free.write_text("as it was")
    monkeypatch.setenv("HARNESS_DATA", str(hidden))
    monkeypatch.setenv("SECRET_TOKEN", "1234")
    with socket.create_server(("127.0.0.1", 0)) as server:
        options = {
            "hidden": str(hidden),
            "open_file": str(free),
            "port": server.getsockname()[1],
            "parent": os.getpid(),
        }
        task = Task(10, (1, 4, 4), "online_few_shot")
        with played(player("Explorer", task, **options), bounds=Bounds(hidden=(hidden,))) as remote:
            if remote.confined is None:
                pytest.skip(f"{WAYS[way]}: {remote.why_not}")
            assert remote.confined == way
            logits, _ = remote.predict(remote.start(1), torch.zeros(1, 1, 4, 4))
    assert logits[0].tolist() == [0.0] * 9 + [1.0]
    assert free.read_text() == "as it was"
    assert (hidden / "secret").read_text() == "targets"


@pytest.mark.slow
def test_where_the_file_system_cannot_be_confined_the_worker_plays_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    protocol, source = PROTOCOLS["glyphs"], EpisodeSource(tiny_dataset("glyphs"))
    loaded = load_method(f"{FILE}:Sums")
    method = build_method(loaded.cls, task_for(loaded.cls, protocol, (1, 28, 28)), {"units": 4}, 3)
    monkeypatch.setattr(isolated, "bubblewrap", lambda: None)
    monkeypatch.setattr(isolated, "uncovered", lambda *_: [Path("/a folder that nobody has")])
    isolated._warn_unconfined.cache_clear()
    found, how = scored(player_of(loaded, method, {"units": 4}, 3), source, protocol, "test", 8)
    assert how == Isolated(confined=None, episodes=8, fresh=False)
    assert "a process of their own, which can read and write what you can" in caplog.text
    here = evaluate(method, source, protocol, "test", 8)
    assert all(np.array_equal(found[name], each, equal_nan=True) for name, each in here.items())


@pytest.mark.slow
def test_a_fresh_worker_has_seen_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    protocol, source = PROTOCOLS["glyphs"], EpisodeSource(tiny_dataset("glyphs"))
    loaded = load_method("majority")
    method = build_method(loaded.cls, task_for(loaded.cls, protocol, (1, 28, 28)), {}, 0)
    found, how = scored(player_of(loaded, method, {}, 0), source, protocol, "test", 8, fresh=True)
    assert (how.episodes, how.fresh) == (8, True)
    assert all(
        np.array_equal(found[name], each, equal_nan=True)
        for name, each in evaluate(method, source, protocol, "test", 8).items()
    )


def test_what_is_needed_is_left_where_the_data_lie_around_it(tmp_path: Path) -> None:
    for each in ("mine.py", "photos/a.png", "photos/deep/b.png", "list.txt"):
        path = tmp_path / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    found = uncovered([tmp_path, tmp_path / "nowhere"], [tmp_path / "mine.py", tmp_path / "photos/deep"])
    assert found == [tmp_path / "list.txt", tmp_path / "photos/a.png"]
    assert uncovered([tmp_path / "photos"], [tmp_path / "mine.py"]) == [tmp_path / "photos"]


def test_data_lie_in_the_root_the_cache_and_where_a_protocol_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    assert {tmp_path / "root", tmp_path / "cache"} <= set(data_places("omniglot"))
    assert tmp_path / "other" in data_places("omniglot", tmp_path / "other")


def test_random_batches_are_whole_and_are_not_always_the_same() -> None:
    protocol, source = PROTOCOLS["glyphs"], EpisodeSource(tiny_dataset("glyphs"))
    drawn = [sampled(source, protocol, "test", 2050, 150) for _ in range(8)]
    assert all(len(batches) == 2 and 150 <= len(numbers) <= 200 for batches, numbers in drawn)
    assert len({tuple(batches) for batches, _ in drawn}) > 1
    batches, numbers = sampled(source, protocol, "test", 30, 200)
    assert (batches, numbers.tolist()) == ([0], list(range(30)))
