"""Recipes: the shipped ones fit every protocol, and stages change episodes as they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.load import load_protocol
from harness.recipe import BUDGETS, EpisodeChange, Stage, budget_hash, load_budget, recipe_path, staged
from harness.registry import load_method, method_names, resolved_options
from harness.shipped import protocol_files, recipes_dir
from harness.spec import digest


@pytest.mark.parametrize("method", method_names())
def test_the_shipped_recipes_fit_every_shipped_protocol(method: str) -> None:
    """Options exist, and every stage is a possible episode."""
    loaded = load_method(method)
    for name in protocol_files():
        protocol = load_protocol(name)
        for which in BUDGETS:
            budget = load_budget(recipe_path(method, loaded.own_file), protocol, which)
            if any(True for _ in budget.options):
                resolved_options(loaded.cls, budget.options)
            for stage in budget.stages:
                assert staged(protocol.protocol, stage.episode).episode.ways <= protocol.protocol.episode.ways


def test_every_recipe_file_is_named_after_a_method() -> None:
    for path in recipes_dir().glob("*.yaml"):
        assert path.stem in {*method_names(), "default"}


def test_a_stage_changes_the_episode_and_with_it_the_stream() -> None:
    late = load_protocol("cifarfs_delay5").protocol
    early = staged(late, EpisodeChange(label_delay=1))
    assert (early.kind, early.label_delay, early.episode.ways) == ("online_few_shot", 1, 5)
    assert early.episode == load_protocol("cifarfs_5way_online").protocol.episode
    short = staged(late, EpisodeChange(ways=2, presentations=3, order="iid"))
    assert (short.kind, short.label_delay, short.steps) == ("delayed_label", 5, 6)
    assert len({digest(late), digest(early), digest(short)}) == 3
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
    assert longer.episodes == budget.episodes + 1


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
