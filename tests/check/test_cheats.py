"""Cheats: harmless where the method is isolated, or caught by the conformance check; and honest neighbours of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.check import Report, check_method
from harness.episodes.source import EpisodeSource
from harness.evaluation import evaluate as module
from harness.evaluation.evaluate import evaluate
from harness.evaluation.isolated import Bounds, Player, Remote, played
from harness.method.interface import Feedback, Method, State
from harness.method.registry import build_method, load_method, task_for
from harness.testing import tiny_dataset
from tests.check.cheats import medley, rememberers, thieves
from tests.check.cheats.base import hashed
from tests.check.cheats.medley import REMEMBERERS, THIEVES, Medley
from tests.helpers import broken_history as broken
from tests.helpers.broken_methods import Honest
from tests.helpers.plans import of_kind

PROTOCOL: Any = of_kind("online_few_shot", "glyphs", ways=3, presentations=3)
SOURCE = EpisodeSource(tiny_dataset("glyphs"))
TASK = task_for(Medley, PROTOCOL, (1, 28, 28), 30)

LASTING = {
    "ReplacesCredit", "ReplacesTheScorer", "RewritesCode", "ReplacesNumPy", "ReplacesGather", "EntersAMode",
    "ReplacesTheSource", "ReplacesOpen", "RewritesAtExit", "RewritesAtOnce", "InTheEnvironment",
    "BesideItsOwnFile", "InTemporaryFiles", "InSharedMemory",
}  # fmt: skip
"""Those that would leave this process, or its disk, changed: they are played in a worker only."""

POINTLESS = {
    # Copies are scored, and made when the answer is given; inputs are clones; the look of real images is not enough.
    "CorrectsItsAnswers", "AnswersWithItsState", "CorrectsFromAThread", "ReachesBehindItsInput",
    "ReachesBehindItsFeedback",
}  # fmt: skip
"""Those that earn nothing in this process either."""


CHANCY = {"SearchesForTensors"}
"""Those that earn something here only if nothing else lies in memory that looks like targets."""


@contextmanager
def playing(names: list[str], cache: Path) -> Iterator[Remote]:
    file = Path(medley.__file__)
    options = {"names": ",".join(names), "cache": str(cache)}
    player = Player(f"{file}:Medley", (), TASK, options, 0, {})
    with played(player, bounds=Bounds(hidden=(cache,))) as remote:
        yield remote


def earned(method: Method, names: list[str]) -> dict[str, float]:
    """What each cheat earns in the one episode that it plays."""
    by_step = evaluate(method, SOURCE, PROTOCOL, "test", len(names))["by_step"]
    return dict(zip(names, by_step.mean(1).tolist(), strict=True))


@pytest.fixture
def image_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that knows every image of the episodes; one episode is a batch."""
    monkeypatch.setattr(module, "BATCH", 1)
    folder = tmp_path / "cache" / "decoded"
    folder.mkdir(parents=True)
    episodes = SOURCE.episodes(PROTOCOL, "test", 0, range(len(REMEMBERERS)))
    for t, b in np.ndindex(*episodes.target.shape):
        (folder / hashed(episodes.x[t, b]).hex()).write_text(str(int(episodes.target[t, b])))
    return folder.parent


def test_there_are_thirty_kinds_and_more() -> None:
    assert len({*THIEVES, *REMEMBERERS}) >= 40


@pytest.mark.slow
def test_what_is_not_there_cannot_be_stolen(image_cache: Path) -> None:
    records = [path for path in Path(thieves.__file__).parent.glob("*.jsonl") if path.read_text()]
    with playing(THIEVES, image_cache) as remote:
        assert earned(remote, THIEVES) == {name: pytest.approx(1 / 3) for name in THIEVES}
    assert records == [path for path in Path(thieves.__file__).parent.glob("*.jsonl") if path.read_text()]


@pytest.mark.slow
def test_a_fresh_worker_remembers_nothing(image_cache: Path) -> None:
    for _ in range(2):
        with playing(REMEMBERERS, image_cache) as remote:
            if remote.confined is None:
                pytest.skip(f"workers cannot be confined here: {remote.why_not}")
            assert earned(remote, REMEMBERERS) == {name: pytest.approx(1 / 3) for name in REMEMBERERS}


@pytest.mark.slow
def test_without_isolation_they_earn_what_they_are_after(image_cache: Path) -> None:
    names = [name for name in [*THIEVES, *REMEMBERERS] if name not in LASTING]
    method = Medley(TASK, ",".join(names), str(image_cache))
    first, again = earned(method, names), earned(method, names)
    gained = {name for name in names if max(first[name], again[name]) > 0.5}
    assert gained - CHANCY == set(names) - POINTLESS - CHANCY


@pytest.mark.parametrize(
    "name", ["OnTheClass", "InAGlobal", "InADefault", "InAModule", "OnATorchFunction", "OnTheHeap"]
)
def test_what_is_remembered_outside_the_instance_is_not_repeatable(name: str) -> None:
    report = checked(type(name, (getattr(rememberers, name), WithoutShelter), {}))
    assert report.result("repeatable").outcome == "failed", report.text()


@pytest.mark.parametrize("name", ["InAnInstance", "InABuffer"])
def test_what_is_remembered_in_the_instance_is_hidden_state(name: str) -> None:
    report = checked(getattr(rememberers, name))
    assert report.result("no hidden state").outcome == "failed", report.text()


@pytest.mark.parametrize(
    ("cls", "check", "reason"),
    [
        (broken.FillsACacheOfFeatures, "nothing remembered", "attribute 'known' holds something of what was answered"),
        (broken.NotesWhatItSees, "nothing remembered", "global 'SEEN' of tests.helpers.broken_history holds something"),
        (broken.TakesNullForTheLastClass, "null is no class", "is taken for class 2: with that in its place"),
    ],
)
def test_what_is_kept_or_taken_for_a_class_is_found(cls: type[Method], check: str, reason: str) -> None:
    found = checked(cls).result(check)
    assert (found.outcome, reason in found.reason) == ("failed", True), found.reason


@pytest.mark.parametrize(("kind", "delay"), [("delayed_label", 3), ("continual", None)])
def test_null_taken_for_a_class_is_found_on_other_kinds(kind: str, delay: int | None) -> None:
    report = check_method(broken.TakesNullForTheLastClass, kinds=[kind], delays=[delay] if delay else None)
    found = report.result("null is no class")
    assert (found.outcome, "is taken for class 2" in found.reason) == ("failed", True), report.text()


@pytest.mark.slow
def test_a_small_untrained_memory_is_not_said_to_take_null_for_a_class() -> None:
    """Under two seeds of weights it happens to answer alike."""
    options = {"channels": 8, "label": 4, "blocks": 1, "key": 8, "value": 8}
    report = check_method(load_method("apl").cls, options=options, kinds=["delayed_label"], delays=[3])
    assert report.result("null is no class").outcome == "passed", report.text()


def test_a_cache_of_queries_is_found_since_each_asking_has_a_fresh_instance() -> None:
    report = check_method(broken.RemembersQueries, kinds=["n_way_k_shot"])
    assert report.result("queries are independent").outcome == "failed", report.text()


def checked(cls: type[Method]) -> Report:
    return check_method(cls, kinds=["online_few_shot"], delays=[1])


class _SharesItsAnswers(Honest):
    """Its answer is a view of what its state has of it; `correct` is what it does once the label comes."""

    def start(self, episodes: int) -> State:
        return {**super().start(episodes), "given": self.scale.new_zeros(episodes, self.task.ways)}

    def observe(self, state: State, feedback: Feedback) -> State:
        self.correct(state["given"], feedback.target)
        return super().observe(state, feedback)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        given = logits.clone()
        return given[:], {**after, "given": given}

    def correct(self, given: Tensor, label: Tensor) -> None:
        return

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None


class CorrectsThroughItsState(_SharesItsAnswers):
    """Writes the label into the view."""

    def correct(self, given: Tensor, label: Tensor) -> None:
        given.scatter_(1, label.clamp(min=0)[:, None], 9.0)


class CorrectsBehindItsState(_SharesItsAnswers):
    """Writes it through NumPy, where torch's counts of versions see nothing."""

    def correct(self, given: Tensor, label: Tensor) -> None:
        np.put_along_axis(given.detach().numpy(), label.clamp(min=0)[:, None].numpy(), 9.0, 1)


class CorrectsLargeBatches(_SharesItsAnswers):
    """Writes it where a batch is larger than those of a check."""

    def correct(self, given: Tensor, label: Tensor) -> None:
        if len(given) > 16:
            given.scatter_(1, label.clamp(min=0)[:, None], 9.0)


@pytest.mark.parametrize(
    ("cls", "outcome", "reason"),
    [
        (CorrectsThroughItsState, "failed", "edited the state before step 0['given'] in place"),
        (CorrectsBehindItsState, "failed", "edited the state before step 0['given'] in place"),
        (CorrectsLargeBatches, "note", "the answer of step 0 shares memory with state['given']; return a copy"),
        (_SharesItsAnswers, "note", "the answer of step 0 shares memory with state['given']; return a copy"),
        (Honest, "passed", ""),
    ],
)
def test_a_state_that_shares_memory_with_answers_is_found(cls: type[Method], outcome: str, reason: str) -> None:
    report = checked(cls)
    found = report.result("nothing in place")
    assert (found.outcome, reason in found.reason) == (outcome, True), report.text()
    assert report.passed == (outcome != "failed"), report.text()


@pytest.mark.parametrize("cls", [CorrectsThroughItsState, CorrectsBehindItsState, CorrectsLargeBatches])
def test_answers_that_are_corrected_through_the_state_earn_what_they_did(cls: type[Method]) -> None:
    task = task_for(Honest, PROTOCOL, (1, 28, 28), 30)
    found, honest = (
        evaluate(build_method(each, task, {}, 0), SOURCE, PROTOCOL, "test", 20)["by_step"] for each in (cls, Honest)
    )
    assert np.array_equal(found, honest)


class WithoutShelter:
    """A name of its own for each test, so that what one remembers is not the other's."""


class KnowsItsCaller(Honest):
    """Looks who called it, for a message."""

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        assert next(iter(thieves.frames())).f_code.co_name == "predict"
        return super().predict(state, x)


class CollectsGarbage(Honest):
    """Has garbage collected now and then."""

    def start(self, episodes: int) -> State:
        thieves.gc.collect(0)
        return super().start(episodes)


class KeepsAConstantOnTheClass(Honest):
    """Has its class numbers made once, for all instances."""

    classes: Tensor | None = None

    def observe(self, state: State, feedback: Feedback) -> State:
        if type(self).classes is None:
            type(self).classes = torch.arange(self.task.ways)
        return super().observe(state, feedback)


class CountsItsCalls(Honest):
    """Counts what it is asked, and does nothing with it."""

    calls = 0

    def start(self, episodes: int) -> State:
        type(self).calls += 1
        return super().start(episodes)


class AnswersFromItsState(Honest):
    """Has its last logits in its state as well, as a copy."""

    def start(self, episodes: int) -> State:
        return {**super().start(episodes), "last": self.scale.new_zeros(episodes, self.task.ways)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        logits, after = super().predict(state, x)
        return logits + 0.1 * state["last"], {**after, "last": logits.clone()}

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        return None


@pytest.mark.parametrize(
    "cls", [KnowsItsCaller, CollectsGarbage, KeepsAConstantOnTheClass, CountsItsCalls, AnswersFromItsState]
)
def test_an_honest_neighbour_is_not_accused(cls: type[Method]) -> None:
    report = checked(cls)
    assert report.passed, report.text()
