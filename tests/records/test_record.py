"""The record takes nothing that is wrong, and knows which runs are seeds of one entry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from harness.method.options import default_options
from harness.method.registry import built_in_methods, load_method
from harness.records.canonical import canonical_json, sha256_of
from harness.records.option_defaults import default_options as known_defaults
from harness.records.record import Record, json_schema, row_keys
from tests.helpers.boards import record


def changed(path: str, value: Any) -> dict[str, Any]:
    content = record().model_dump(mode="json")
    *parents, key = path.split("/")
    inside = content
    for each in parents:
        inside = inside[each]
    inside[key] = value
    return content


def test_a_record_survives_json() -> None:
    original = record(accuracy=100 / 3)
    assert Record.model_validate(json.loads(canonical_json(original.model_dump(mode="json")))) == original


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema_version", 2),
        ("status", "started"),
        ("run", ""),
        ("run", "two\nlines"),
        ("seed", "0"),
        ("seed", -1),
        ("seed", True),
        ("train_episodes", 1.5),
        ("test_episodes", 0),
        ("digest", "abc"),
        ("checkpoint", "D" * 64),
        ("metrics", {}),
        ("metrics/accuracy/mean", 100.1),
        ("metrics/accuracy/mean", -0.1),
        ("metrics/accuracy/mean", float("nan")),
        ("metrics/accuracy/mean", "80"),
        ("metrics/accuracy/interval", float("inf")),
        ("metrics/accuracy/interval", None),
        ("metrics/accuracy/episodes", 1001),
        ("curves/by_shot", [2009.0]),
        ("options/rate", float("nan")),
        ("options/deep", {"list": [float("inf")]}),
        ("cost/gflop_per_step", float("nan")),
        ("cost/gflop_per_query", -0.1),
        ("cost/state_growth", "with t"),
        ("cost/state_growth", "slowly"),
        ("marks", ["transductive", "transductive"]),
        ("marks", ["stand-in"]),
        ("data/stand_in", True),
        ("init_episodes", 5),
        ("finished", "yesterday"),
        ("finished", "2026-01-01T12:00:00"),
        ("finished", "2026-01-01T12:00:00+02:00"),
        ("surprise", 1),
        ("cost/surprise", 1),
    ],
)
def test_a_wrong_value_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Record.model_validate(changed(path, value))


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", ".hidden", "", "..", "a\nb"])
def test_a_protocol_name_cannot_lead_to_another_folder(name: str) -> None:
    with pytest.raises(ValidationError, match="protocol"):
        record(protocol=name)


@pytest.mark.parametrize("name", ["omniglot_5way_online", "my protocol v1.2", "été"])
def test_a_protocol_may_have_any_plain_file_name(name: str) -> None:
    assert record(protocol=name).protocol == name


def test_a_single_episode_has_no_interval() -> None:
    single = {"accuracy": {"mean": 50.0, "interval": None, "episodes": 1}}
    assert Record.model_validate(changed("metrics", single)).metrics["accuracy"].interval is None
    with pytest.raises(ValidationError, match="interval"):
        Record.model_validate(changed("metrics/accuracy", {**single["accuracy"], "interval": 0.0}))


def test_a_record_from_before_queries_were_counted_is_still_read() -> None:
    content = record().model_dump(mode="json")
    del content["cost"]["gflop_per_query"]
    assert Record.model_validate(content).cost.gflop_per_query is None


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record().seed = 1  # type: ignore[misc]


def test_every_field_is_documented_in_the_schema() -> None:
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]
    described = [
        (model.get("title"), name, field.get("description"))
        for model in models
        for name, field in model.get("properties", {}).items()
    ]
    assert len(described) > 40
    assert [each for each in described if not each[2]] == []


@pytest.mark.parametrize(
    "change",
    [
        {"run": "another"},
        {"seed": 7},
        {"finished": "2026-02-02T00:00:00Z"},
        {"train_seconds": 1.0},
        {"train_episodes": 19000},
        {"checkpoint": "e" * 64},
        {"accuracy": 1.0},
    ],
)
def test_seeds_of_one_entry_share_their_key(change: dict[str, Any]) -> None:
    assert record(**change).row_key == record().row_key


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "e" * 64},
        {"data": record().data.model_copy(update={"fingerprint": "e" * 64})},
        {"target": "other.py:OPN"},
        {"options": {"width": 32}},
        {"recipe_hash": "e" * 64},
        {"budget": "full"},
        {"budget_cut": "episodes=500"},
        {"init": "e" * 64},
        {"init": "e" * 64, "init_episodes": 500},
        {"test_episodes": 900},
        {"method_version": 2},
    ],
)
def test_another_setting_is_another_entry(change: dict[str, Any]) -> None:
    assert record(**change).row_key != record().row_key


def test_keys_of_many_are_those_of_each_whether_or_not_they_have_their_options_in_common() -> None:
    options = {"width": 1, "deep": {"a": [1, 2.0, True, None, "ä"]}}
    found = [
        record(options=options, method_version=version, test_episodes=count, seed=seed)
        for version in (1, 2)
        for count in (900, 1000)
        for seed in (0, 1)
    ]
    shared = [each.model_copy(update={"options": options}) for each in found]
    others = [record(options={"width": 1.0}), record(options={"width": True}), record(options={})]
    every = [*found, *shared, *others, *shared]
    assert row_keys(every) == [each.row_key for each in every]
    assert len(set(row_keys(every))) == 4 + 3


def test_the_key_is_the_hash_of_the_canonical_json_of_what_is_shared() -> None:
    own = record(init="e" * 64, init_episodes=5, method_version=3)
    shared = {
        name: getattr(own, name) for name in ("digest", "target", "options", "recipe_hash", "budget", "budget_cut")
    }
    shared |= {"fingerprint": own.data.fingerprint, "init_episodes": 5, "test_episodes": 1000, "method_version": 3}
    assert own.row_key == sha256_of(shared)


def test_seeds_that_began_from_equally_trained_weights_share_their_key() -> None:
    first, second = (record(init=letter * 64, init_episodes=500) for letter in "ef")
    assert first.row_key == second.row_key != record(init="e" * 64, init_episodes=600).row_key


def test_weights_of_unknown_training_are_other_settings() -> None:
    first, second = record(init="e" * 64), record(init="f" * 64)
    assert first.row_key != second.row_key


def test_an_option_that_a_method_got_later_counts_as_its_default_in_rows_from_before() -> None:
    target = "methods.cpm:CPM"
    before = record(target=target, options={"units": 128})
    assert before.row_key == record(target=target, options={"units": 128, "mean_over": "episodes"}).row_key
    assert before.row_key != record(target=target, options={"units": 128, "mean_over": "steps"}).row_key


@pytest.mark.parametrize("name", built_in_methods())
def test_the_options_of_every_built_in_method_are_known_to_older_rows(name: str) -> None:
    """A new option belongs into harness/records/option_defaults.json, with the default that gives what there was."""
    method = load_method(name)
    assert default_options(method.cls).keys() <= known_defaults(method.target).keys()


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": {"d": 2, "c": 3}}) == '{"a":{"c":3,"d":2},"b":1}'
    assert sha256_of({"b": 1, "a": 2}) == sha256_of({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
