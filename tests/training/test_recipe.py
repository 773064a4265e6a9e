"""Recipes: the shipped ones fit every protocol, and stages change episodes as they say."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.method.options import resolved_options
from harness.method.registry import load_method
from harness.protocol.load import Loaded, load_protocol
from harness.protocol.models import Continual, DelayedLabel, NWayKShot, OnlineFewShot, SegmentationDistractors
from harness.testing.tiny import tiny_source
from harness.training import recipe_file
from harness.training.recipe import BUDGETS, EpisodeChange, Stage, budget_hash, staged
from harness.training.recipe_file import load_budget, read_recipe, recipe_path
from harness.util.errors import UserError
from harness.util.shipped_files import protocol_files, recipes_dir
from methods import BUILT_IN
from tests.helpers.protocols import protocol_as


@functools.cache
def shipped() -> dict[str, Loaded]:
    return {name: load_protocol(name) for name in protocol_files()}


def budgets_of(path: Path, protocol: Loaded, init: bool) -> list[str]:
    """The budgets that a recipe has for a protocol."""
    recipe, _ = recipe_file.read_recipe(path)
    return list(next(part for part in recipe.parts if part.when.matches(protocol, init)).budgets)


@pytest.mark.parametrize("method", [*BUILT_IN, "default"])
def test_the_shipped_recipes_fit_every_shipped_protocol(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options exist, every stage is a possible episode of no more classes, and only real splits are asked for."""
    monkeypatch.setattr(recipe_file, "read_recipe", functools.cache(read_recipe))
    loaded = None if method == "default" else load_method(method)
    path = recipes_dir() / "default.yaml" if loaded is None else recipe_path(method, loaded.own_file)
    for name, protocol in shipped().items():
        if loaded is not None and protocol.protocol.kind not in loaded.cls.kinds:
            continue
        for which, init in itertools.product(BUDGETS, (False, True)):
            if which not in budgets_of(path, protocol, init):
                continue
            budget = load_budget(path, protocol, which, init)
            if loaded is not None and budget.options:
                resolved_options(loaded.cls, budget.options)
            for stage in budget.stages:
                if stage.objective != "pretext":
                    shape = staged(protocol.protocol, stage.episode, stage.kind).needs
                    assert shape.classes <= protocol.protocol.needs.classes, f"{name}, {which}, {stage.name}"
            if protocol.protocol.kind == "supervised":
                assert budget.validation is None


def pinned() -> dict[str, dict[str, dict[str, str]]]:
    """Hashes of budgets as they were before recipes had families and curricula: by recipe, protocol and budget."""
    found: dict[str, dict[str, dict[str, str]]] = json.loads(Path(__file__).with_name("recipe_hashes.json").read_text())
    return found


@pytest.mark.parametrize("recipe", sorted(pinned()))
def test_a_recipe_means_what_it_meant(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are of one entry only if their recipe hash is the same: how a recipe is written must not change it."""
    monkeypatch.setattr(recipe_file, "read_recipe", functools.cache(read_recipe))
    path = recipes_dir() / recipe
    for name, hashes in pinned()[recipe].items():
        found = {
            which + " --init" * init: budget_hash(load_budget(path, shipped()[name], which, init))[:16]
            for init in (False, True)
            for which in budgets_of(path, shipped()[name], init)
        }
        # A hash with --init is written down only where it is another.
        assert found == {f"{which} --init": each for which, each in hashes.items() if "--init" not in which} | hashes


def test_every_recipe_file_is_named_after_a_method() -> None:
    for path in recipes_dir().glob("*.yaml"):
        assert path.stem in {*BUILT_IN, "default"}


def test_a_stage_changes_the_episode_and_with_it_the_stream() -> None:
    late = load_protocol("cifarfs_delay5").protocol
    early = staged(late, EpisodeChange(label_delay=1))
    assert isinstance(early, OnlineFewShot)
    assert (early.kind, early.label_delay, early.episode.ways) == ("online_few_shot", 1, 5)
    assert early.episode == load_protocol("cifarfs_5way_online").protocol.episode
    short = staged(late, EpisodeChange(ways=2, presentations=3, order="iid"))
    assert isinstance(short, DelayedLabel)
    assert (short.kind, short.label_delay, short.steps) == ("delayed_label", 5, 6)
    assert len({late.digest, early.digest, short.digest}) == 3
    assert staged(late, EpisodeChange()) is late
    back = staged(load_protocol("cifarfs_5way_online").protocol, EpisodeChange(label_delay=5))
    assert (back.kind, back.label_delay) == ("delayed_label", 5)


def test_an_impossible_stage_says_what_it_asks_for() -> None:
    with pytest.raises(UserError, match=r"impossible episode.*ways.*70.*64"):
        staged(load_protocol("cifarfs_delay5").protocol, EpisodeChange(ways=70))


def test_a_broken_recipe_names_file_line_and_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "method: mine\nparts:\n  - smoke: {stages: []}\n    quick:\n      stages:\n"
        "        - {name: a, epsodes: 5}\n    full: {batch: 0, stages: []}\n"
    )
    with pytest.raises(UserError) as caught:
        load_budget(path, load_protocol("omniglot_5way_online"), "quick")
    message = str(caught.value)
    assert "mine.yaml:6" in message
    assert "epsodes" in message
    assert "'episodes'" in message
    assert "mine.yaml:7" in message


def test_the_first_part_that_fits_is_taken_and_none_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    budgets = "smoke: {{batch: {n}}}\n    quick: {{batch: {n}}}\n    full: {{batch: {n}}}\n"
    path.write_text(
        "method: mine\nparts:\n"
        + "  - when: {dataset: [omniglot]}\n    " + budgets.format(n=3)
        + "  - when: {kind: [delayed_label], protocol: [cifarfs_delay5, cifarfs_delay4]}\n    " + budgets.format(n=5)
    )  # fmt: skip
    assert load_budget(path, load_protocol("omniglot_5way_online"), "quick").batch == 3
    assert load_budget(path, load_protocol("cifarfs_delay5"), "full").batch == 5
    with pytest.raises(UserError, match="no part of this recipe is for cifarfs_delay2"):
        load_budget(path, load_protocol("cifarfs_delay2"), "full")


def test_where_a_recipe_is_looked_for(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    assert recipe_path("opn", own).stem == "opn"
    assert recipe_path("Mine", own).stem == "default"
    own.with_suffix(".yaml").write_text("")
    assert recipe_path("Mine", own) == own.with_suffix(".yaml")


def test_the_hash_of_a_budget_follows_what_it_says() -> None:
    protocol = load_protocol("omniglot_5way_online")
    path = recipes_dir() / "opn.yaml"
    budget = load_budget(path, protocol, "quick")
    assert budget_hash(budget) == budget_hash(load_budget(path, protocol, "quick"))
    longer = budget.model_copy(update={"stages": [*budget.stages, Stage(name="more", episodes=1)]})
    assert budget_hash(budget) != budget_hash(longer)
    assert longer.episodes == budget.episodes + budget.batch


def test_a_part_can_be_for_runs_that_begin_from_weights(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "method: mine\nparts:\n"
        "  - {when: {init: true}, smoke: &a {batch: 3}, quick: *a, full: *a}\n"
        "  - {smoke: &b {batch: 5}, quick: *b, full: *b}\n"
    )
    protocol = load_protocol("cifarfs_delay5")
    assert load_budget(path, protocol, "quick", init=True).batch == 3
    assert load_budget(path, protocol, "quick").batch == 5


@pytest.mark.slow
def test_a_stage_without_the_distractor_shows_the_target_alone() -> None:
    """The curriculum of segmentation: first without, then with distractors."""
    protocol = protocol_as(SegmentationDistractors, "fss1000_distractors")
    presentations = protocol.episode.presentations
    for change, distractor in ((EpisodeChange(distractor=False), False), (EpisodeChange(), True)):
        stage = staged(protocol, change)
        assert isinstance(stage, SegmentationDistractors)
        assert stage.episode.distractor is distractor
        source = tiny_source(protocol.model_copy(update={"dataset": "scenes"}))
        episodes = source.episodes(stage, "train", 0, range(3))
        counts = [np.bincount(row, minlength=2).tolist() for row in episodes.plan.target]
        assert counts == [[presentations, presentations * distractor]] * 3
        empty = ~episodes.target.flatten(2).any(-1)
        assert empty.T.tolist() == (episodes.plan.target == 1).tolist()
    plain = load_protocol("fss1000_plain").protocol
    assert staged(protocol, EpisodeChange(distractor=False)).episode == plain.episode


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("omniglot_continual5", {"ways": 2}, r"'episode.ways'.*continual has subtasks, shots, queries"),
        ("omniglot_continual5", {"label_delay": 2}, r"'episode.label_delay'.*continual has"),
        ("omniglot_20way_1shot", {"order": "iid"}, r"'episode.order'.*n_way_k_shot has ways, shots, queries"),
        ("omniglot_5way_online", {"queries": 3}, r"'episode.queries'.*online_few_shot has ways, presentations"),
        ("fss1000_plain", {"shots": 3}, r"'episode.shots'.*segmentation_distractors has presentations, distractor"),
        ("cifar10_supervised", {"ways": 3}, r"'episode.ways'.*supervised has nothing that can be changed"),
    ],
)
def test_a_stage_that_asks_for_what_the_kind_lacks_says_what_it_has(
    name: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        staged(load_protocol(name).protocol, EpisodeChange(**change))


def test_stages_of_other_kinds_change_what_they_name() -> None:
    continual = staged(load_protocol("omniglot_continual20").protocol, EpisodeChange(subtasks=5, queries=3))
    assert isinstance(continual, Continual)
    assert (continual.episode.subtasks, continual.episode.shots, continual.episode.queries) == (5, 5, 3)
    shots = staged(load_protocol("omniglot_20way_1shot").protocol, EpisodeChange(ways=4, shots=3))
    assert isinstance(shots, NWayKShot)
    assert (shots.episode.ways, shots.episode.shots, shots.episode.queries) == (4, 3, 15)


def test_one_curriculum_serves_protocols_of_all_delays(tmp_path: Path) -> None:
    """Stages with later labels than the protocol's are left out, unless their episodes are of another kind anyway."""
    path = tmp_path / "mine.yaml"
    stages = "".join(f"{{name: '{n}', episodes: 1, episode: {{label_delay: {n}}}}}, " for n in (1, 2, 3, 5))
    late = "{name: other, kind: delayed_label, episodes: 1, episode: {ways: 2, presentations: 3, label_delay: 4}}"
    budget = f"{{stages: [{stages}{late}]}}"
    path.write_text(f"method: mine\nparts:\n  - {{smoke: {budget}, quick: {budget}, full: {budget}}}\n")
    expected = {"5way_online": ["1"], "delay2": ["1", "2"], "delay4": ["1", "2", "3"], "delay5": ["1", "2", "3", "5"]}
    for name, names in expected.items():
        found = load_budget(path, load_protocol(f"cifarfs_{name}"), "quick").stages
        assert [stage.name for stage in found] == [*names, "other"]


def test_one_curriculum_serves_protocols_of_all_lengths(tmp_path: Path) -> None:
    """Stages with more classes than the protocol's episodes are left out; where that leaves nothing, it is said."""
    path = tmp_path / "mine.yaml"
    stages = "".join(f"{{name: '{n}', episodes: 1, episode: {{subtasks: {n}}}}}, " for n in (2, 5, 10, 20))
    budget = f"{{stages: [{stages}{{name: whole, episodes: 1}}]}}"
    path.write_text(f"method: mine\nparts:\n  - {{smoke: {budget}, quick: {budget}, full: {{stages: [{stages}]}}}}\n")
    for subtasks, expected in ((5, ["2", "5"]), (10, ["2", "5", "10"]), (20, ["2", "5", "10", "20"])):
        protocol = load_protocol(f"omniglot_continual{subtasks}")
        names = [stage.name for stage in load_budget(path, protocol, "quick").stages]
        assert names == [*expected, "whole"]
    small = load_protocol("omniglot_continual5")
    one = small.protocol.model_copy(update={"episode": small.protocol.episode.model_copy(update={"subtasks": 1})})
    assert len(load_budget(path, replace(small, protocol=one), "quick").stages) == 1
    with pytest.raises(
        UserError, match="omniglot_continual5 gets no stage of 'full': 2 subtasks are more than the 1 of the protocol"
    ):
        load_budget(path, replace(small, protocol=one), "full")
