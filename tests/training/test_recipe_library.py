"""Recipes written shortly: named things, curricula, families and `extends`, each with its errors at their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.protocol.load import load_protocol
from harness.training.curriculum import binding_loss
from harness.training.recipe import Budget
from harness.training.recipe_file import load_budget, read_recipe, recipe_files, resolve_budget
from harness.util.errors import UserError

PROTOCOL = load_protocol("omniglot_5way_online")


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def quick(path: Path, protocol: str = "omniglot_5way_online") -> Budget:
    return load_budget(path, load_protocol(protocol), "quick")


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    return str(caught.value)


def test_budgets_stages_and_options_are_taken_over_by_name(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """method: mine
options:
  small: {channels: 8, units: 4}
stages:
  classes: {name: classes, objective: classes, episodes: 100, lr: 1e-2}
  own: {name: the protocol, episodes: 10}
  both: [classes, own]
budgets:
  short: {options: small, batch: 2, optimizer: {name: sgd, momentum: 0.9}, stages: [classes, own]}
parts:
  - when: {kind: [delayed_label]}
    quick: {like: short, optimizer: {lr: 0.5}, stages: [{like: classes, episodes: 7}, {name: last, episodes: 1}, both]}
  - quick: short
""",
    )
    short = quick(path)
    assert (short.batch, short.options) == (2, {"channels": 8, "units": 4})
    assert [(stage.name, stage.episodes, stage.lr) for stage in short.stages] == [
        ("classes", 100, 1e-2),
        ("the protocol", 10, None),
    ]
    late = quick(path, "omniglot_delay2")
    assert [(stage.name, stage.episodes, stage.lr) for stage in late.stages] == [
        ("classes", 7, 1e-2),
        ("last", 1, None),
        ("classes", 100, 1e-2),
        ("the protocol", 10, None),
    ]
    assert (late.optimizer.name, late.optimizer.lr, late.optimizer.momentum) == ("sgd", 0.5, 0.9)


def test_a_curriculum_is_written_out_before_it_is_hashed(tmp_path: Path) -> None:
    long, short = (
        quick(written(tmp_path, f"method: mine\nparts:\n  - quick:\n      stages:\n{stages}", name))
        for name, stages in {
            "long.yaml": """\
        - {name: 2 ways, episodes: 64, until_loss: 0.343, lr: 1e-3, episode: {ways: 2, shots: 5}}
        - {name: 3 ways, episodes: 32, until_loss: 0.485, lr: 1e-3, episode: {ways: 3, shots: 5}}
        - {name: 5 ways, episodes: 32, until_loss: 0.663, lr: 1e-3, episode: {ways: 5, shots: 3}}
""",
            "short.yaml": """\
        - name: "{ways} ways"
          episodes: [64, 32, 32]
          until: binding
          lr: 1e-3
          episode: {ways: [2, 3, 5], shots: [5, 5, 3]}
""",
        }.items()
        for stages in [stages.replace("shots", "presentations")]
    )
    assert long == short


def test_binding_is_judged_by_ways_or_subtasks(tmp_path: Path) -> None:
    assert [binding_loss(ways) for ways in (2, 3, 4, 5, 10)] == [0.343, 0.485, 0.585, 0.663, 0.906]
    text = 'method: mine\nparts: [{quick: {stages: [{name: "{subtasks}", episodes: 1, until: binding, %s}]}}]\n'
    path = written(tmp_path, text % "episode: {subtasks: [2, 5]}")
    assert [stage.until_loss for stage in quick(path, "omniglot_continual5").stages] == [0.343, 0.663]
    assert "says neither ways nor subtasks" in refusal(written(tmp_path, text.replace("{subtasks}", "a") % "lr: 1.0"))


def test_a_long_recipe_is_a_file_a_family(tmp_path: Path) -> None:
    """Parts of families follow one another; errors stand in the family's file; a name is laid over the families'."""
    top = written(tmp_path, "method: mine\nfamilies: [mine/late.yaml, mine/rest.yaml]\n")
    written(tmp_path, "method: mine\nstages: {all: {name: all, episodes: 5}}\n", "mine/library.yaml")
    late = "extends: library.yaml\nparts:\n  - {when: {kind: [delayed_label]}, quick: {batch: 3, stages: [all]}}\n"
    written(tmp_path, late, "mine/late.yaml")
    written(tmp_path, "extends: library.yaml\nparts:\n  - quick: {batch: 4, stages: [all]}\n", "mine/rest.yaml")
    assert [quick(top, name).batch for name in ("omniglot_delay2", "omniglot_5way_online")] == [3, 4]
    found = resolve_budget(top, PROTOCOL, "quick")
    assert (found.part.path.name, found.part.line, found.stages[0].path.name) == ("rest.yaml", 3, "library.yaml")
    longer = written(tmp_path, "extends: mine.yaml\nstages: {all: {episodes: 50}}\n", "longer.yaml")
    assert quick(longer).stages[0].episodes == 50
    written(tmp_path, late.replace("batch: 3", "btch: 3"), "mine/late.yaml")
    assert "late.yaml:3:45: parts[0].quick.btch: unknown key. Did you mean 'batch'?" in refusal(top)


def test_a_shipped_recipe_can_be_extended_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, "extends: opn\nnotes: the same\n")
    assert quick(path) == quick(recipe_files()["opn"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parts: [{quick: shrt}]\nbudgets: {short: {batch: 2}}", ":2:17: parts[0].quick: there is no 'shrt' among the"),
        ("parts: [{quick: shrt}]\nbudgets: {short: {batch: 2}}", "Did you mean 'short'? Known: short"),
        ("parts: [{quick: {stages: [one]}}]", "parts[0].quick.stages[0]: there is no 'one' among the stages"),
        ("parts: [{quick: {options: [one]}}]", ":2:27: parts[0].quick.options: found a list of 1, expected a mapping"),
        ("parts: [{quick: a}]\nbudgets: {a: {like: b}, b: {like: a}}", "'a' takes over itself: a -> b -> a"),
        ("parts: [{quick: a}]\nbudgets: {a: {}, b: {}}", ":3:18: budgets.b: no part of this recipe takes this over"),
        ("parts: [{quick: {stages: [{like: [a]}]}}]", "there is no '[", ),
        ("parts: [{quick: {stages: [{name: a, episodes: [1, 2]}]}}]", "needs a name of its own: write {episodes}"),
        ("parts: [{quick: {stages: [{name: '{wys}', episodes: [1]}]}}]", "'{wys}' is no key of this stage"),
        (
            "parts: [{quick: {stages: [{name: '{ways}', episodes: [1], episode: {ways: [2, 3]}}]}}]",
            "episodes: has 1 entries, but 'episode.ways' has 2",
        ),
        ("parts: [{quick: {stages: [{name: a, episodes: 1, until: soon}]}}]", "found 'soon', expected binding"),
        ("parts: [{quick: a}]\nbudgets: 5", ":3:10: budgets: expected a mapping of named budgets"),
        ("families: [nowhere.yaml]", ":2:12: families[0]: there is no file"),
        ("families: nowhere.yaml", ":2:11: families: expected a list of recipe files"),
        ("parts: [{when: {kind: [continual]}}]", ":2:9: parts[0]: this part has no budget; write at least one of"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_out_is_refused_at_its_line(text: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(written(tmp_path, f"method: mine\n{text}\n"))


def test_a_family_of_another_method_is_refused(tmp_path: Path) -> None:
    top = written(tmp_path, "method: mine\nfamilies: [other.yaml]\n")
    written(tmp_path, "method: other\nparts: [{quick: {}}]\n", "other.yaml")
    assert "other.yaml:1:9: method: this is a family of the recipe of 'mine', not of 'other'" in refusal(top)


def test_names_that_stand_for_too_much_are_refused(tmp_path: Path) -> None:
    lines: dict[str, Any] = {"s0": "[{name: a, episodes: 1}, {name: a, episodes: 1}]"}
    lines |= {f"s{n}": f"[s{n - 1}, s{n - 1}, s{n - 1}, s{n - 1}]" for n in range(1, 30)}
    stages = "".join(f"  {name}: {each}\n" for name, each in lines.items())
    path = written(tmp_path, f"method: mine\nstages:\n{stages}parts: [{{quick: {{stages: [s29]}}}}]\n")
    assert "more than 10000 stages" in refusal(path)
