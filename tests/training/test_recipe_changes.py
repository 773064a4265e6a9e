"""Changes of a recipe at the command line: what they set, what is refused, what is left of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.protocol.load import load_protocol
from harness.training.recipe import Budget, budget_hash
from harness.training.recipe_changes import changed, in_words, parse_changes
from harness.training.recipe_file import Resolved, resolve_budget
from harness.util.errors import UserError
from harness.util.option_names import named_for_shell
from harness.util.shipped_files import recipes_dir

RECIPE = """\
method: mine
parts:
  - quick:
      batch: 8
      optimizer: {name: sgd, lr: 0.1, momentum: 0.9}
      stages:
        - {name: classes, objective: classes, episodes: 100, batch: 64, lr: 3e-3}
        - {name: v. 2, episodes: 200, optimizer: {name: adam, lr: 0.5}, episode: {ways: 2}}
        - {name: the protocol, episodes: 300, schedule: cosine}
        - {name: 9 ways, episodes: 300, episode: {ways: 9}}
      validation: {every: 100, episodes: 10}
"""


def resolved(folder: Path, changes: dict[str, Any]) -> Resolved:
    path = folder / "mine.yaml"
    path.write_text(RECIPE)
    return resolve_budget(path, load_protocol("omniglot_5way_online"), "quick", changes=changes)


def rates(budget: Budget) -> list[float]:
    return [stage.lr or (stage.optimizer or budget.optimizer).lr for stage in budget.stages]


def test_a_change_is_of_every_stage_and_one_with_a_name_of_that_stage(tmp_path: Path) -> None:
    plain = resolved(tmp_path, {}).budget
    assert rates(plain) == [3e-3, 0.5, 0.1]
    assert rates(resolved(tmp_path, {"lr": 0.2}).budget) == [0.2, 0.2, 0.2]
    both = resolved(tmp_path, {"the protocol.lr": 0.7, "lr": 0.2}).budget
    assert rates(both) == [0.2, 0.2, 0.7]
    assert rates(resolved(tmp_path, {"v. 2.lr": 0.3}).budget) == [3e-3, 0.3, 0.1]
    batches = resolved(tmp_path, {"batch": 4, "classes.batch": 5}).budget
    assert [stage.batch or batches.batch for stage in batches.stages] == [5, 4, 4]
    shape = resolved(tmp_path, {"the protocol.episode.ways": 3, "episodes": 7, "warmup": 2}).budget
    assert [stage.episode.ways for stage in shape.stages] == [None, 2, 3]
    assert {(stage.episodes, stage.warmup) for stage in shape.stages} == {(7, 2)}
    other = resolved(tmp_path, {"augment": ["flip"], "validation.every": 50, "clip_norm": 3}).budget
    assert (other.augment, other.validation and other.validation.every, other.clip_norm) == (["flip"], 50, 3)
    finer = resolved(tmp_path, {"clip_norm": None, "clip_value": 10, "the protocol.clip_tensor_norm": 5}).budget
    assert (finer.clip_norm, finer.clip_value, finer.stages[-1].clip_tensor_norm) == (None, 10, 5)


def test_settings_of_an_optimiser_are_taken_together(tmp_path: Path) -> None:
    """In whatever order they are given: adam has no momentum, which must go at once."""
    found = resolved(tmp_path, {"optimizer.momentum": 0, "optimizer.name": "adamw"}).budget
    assert (found.optimizer.name, found.optimizer.momentum) == ("adamw", 0)
    assert found.stages[1].optimizer is not None
    assert found.stages[1].optimizer.name == "adamw"
    own = resolved(tmp_path, {"the protocol.optimizer.weight_decay": 0.5}).budget
    assert [stage.optimizer and stage.optimizer.weight_decay for stage in own.stages] == [None, 0, 0.5]
    assert own.stages[2].optimizer is not None
    assert own.stages[2].optimizer.lr == 0.1


def test_a_change_that_changes_nothing_is_none(tmp_path: Path) -> None:
    """The run is then the same as without it, with the same folder and no mark."""
    found = resolved(tmp_path, {"the protocol.schedule": "cosine", "classes.lr": 3e-3})
    assert found.changes == {}
    assert budget_hash(found.budget) == budget_hash(resolved(tmp_path, {}).budget)
    some = resolved(tmp_path, {"batch": 8, "the protocol.schedule": "cosine"})
    assert in_words(some.changes) == ["batch=8"]


def test_the_command_line_is_read_as_a_recipe_is() -> None:
    found = parse_changes("1e-3", "4", ["clip_norm=null", "augment=[flip, crop]", "the protocol.schedule = cosine"])
    expected = {"lr": 1e-3, "batch": 4, "clip_norm": None, "augment": ["flip", "crop"]}
    assert found == {**expected, "the protocol.schedule": "cosine"}
    words = ["lr=0.001", "batch=4", "clip_norm=null", "augment=[flip, crop]", "the protocol.schedule=cosine"]
    assert in_words(found) == words
    assert parse_changes(None, None, words) == found


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["lr=1e300"], "--lr: found 1e+300, expected a number greater than 0 and of at most 1000"),
        (["lr=nan"], '--lr: found "nan" (text), expected a number'),
        (["lr=.nan"], ".nan is not a finite number"),
        (["lr=1e999"], "1e999 is too large a number"),
        (["lr=-1"], "--lr: found -1, expected a number greater than 0"),
        (["lr=true"], "--lr: found true, expected a number"),
        (["batch=0"], "--batch: found 0, expected a whole number from 1 to 1048576"),
        (["batch=9223372036854775807"], "expected a whole number from 1 to 1048576"),
        (["batch=1.5"], "--batch: found 1.5, expected a whole number"),
        (["v. 2.lr=0"], "--override v. 2.lr: found 0, expected a number greater than 0"),
        (["bach=3"], "there is no key 'bach'. Did you mean 'batch'? Allowed: "),
        (["classes.lrr=3"], "--override classes.lrr: there is no key 'lrr'. Did you mean 'lr'?"),
        (
            ["clases.lr=3"],
            "there is no stage 'clases'. Did you mean 'classes'? Stages: classes, v. 2, the protocol, 9 ways.",
        ),
        (["9 ways.lr=3"], "stage '9 ways' is left out on this protocol: 9 ways are more than the 5 of the protocol"),
        (["the protocol.episode.ways=6"], "stage 'the protocol' cannot be trained on: 6 ways are more than the 5"),
        (["the protocol.episode.queries=6"], "'episode.queries'"),
        (["episode.order=sorted"], "--override episode.order: found"),
        (["name=a"], "there is no key 'name'"),
        (["options.channels=3"], "options of the method are set with --set"),
        (["precision=bf16"], "--precision"),
        (["optimizer.lr=3"], "the learning rate is the key 'lr'"),
        (["classes.validation.every=3"], "'validation.every' is of the whole budget; leave the stage out"),
        (["v. 2.optimizer.momentum=0.9"], "adam has none; it is a setting of sgd"),
        (["lr"], "--override is 'lr'; write it as KEY=VALUE"),
        (["=3"], "write it as KEY=VALUE"),
        (["lr="], "write it as KEY=VALUE"),
        (["lr=1", "lr=2"], "'lr' is given twice"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_what_is_allowed(
    overrides: list[str], said: str, tmp_path: Path
) -> None:
    with named_for_shell(), pytest.raises(UserError) as caught:
        resolved(tmp_path, parse_changes(None, None, overrides))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": -1}, "lr: found -1"),
        ({"classes.lrr": 3}, "override classes.lrr: there is no key 'lrr'"),
        ({"options.channels": 3}, "override options.channels: options of the method are set with options"),
    ],
)
def test_to_python_what_cannot_be_changed_is_named_as_an_argument(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        resolved(tmp_path, changes)
    assert str(caught.value).startswith(said)


def test_there_is_nothing_to_change_where_nothing_is_trained_or_validated() -> None:
    with pytest.raises(UserError, match="'lr' cannot be changed: this budget of the recipe trains nothing"):
        changed(Budget(), {"lr": 1e-3}, {})
    path, supervised = recipes_dir() / "vgg11.yaml", load_protocol("cifar10_supervised")
    with pytest.raises(UserError, match="this budget of the recipe has no validation"):
        resolve_budget(path, supervised, "quick", changes={"validation.every": 5})
