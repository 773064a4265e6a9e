"""The shipped protocols: valid, of fixed meaning, with the numbers that the papers print; and their JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from harness.data.cards import CARDS
from harness.load import for_data, load_protocol
from harness.shipped import protocol_files
from harness.spec import PROTOCOL, digest, json_schema
from harness.text.document import YamlError, read_yaml
from harness.text.file_schema import file_schema

DIGESTS = {
    "cifarfs_5way_online": "d4fc8d52dcf2455a99a4dcf76526c38d071a080adbdc4484f83204721fefdce9",
    "cifarfs_delay2": "a2f65b726f4c5c415f8ad2071e0847efa6c40a57dd538d58fc705576e8d76213",
    "cifarfs_delay4": "b0cfffc6d599728c2f9c5b1196ddd7b189e653c4b4001915a5871f62ba55ad36",
    "cifarfs_delay5": "575b12fccd656fd6bba9dc755d0f28dfa761c831be08f0411623fa0e1a9d95e8",
    "omniglot_5way_online": "7e1d4744661b2906135a7ccab1da02cfdb18ba0ca4a5398ccc2d6d2397f47ff7",
}
"""Boards hold rows of these digests: a shipped protocol is never changed in meaning, a new one gets a new name."""

TABLES = {
    ("omniglot_5way_online", "lstm", "table 1"): {1: [85.3, 0.2], 5: [94.4, 0.1], 8: [95.8, 0.6]},
    ("omniglot_5way_online", "ntm", "table 1"): {1: [88.7, 0.5], 5: [96.8, 0.1], 8: [97.3, 0.1]},
    ("omniglot_5way_online", "apl", "table 1"): {1: [89.1, 0.0], 5: [94.9, 0.0], 8: [95.7, 0.1]},
    ("omniglot_5way_online", "opn", "table 1"): {1: [91.2, 1.1], 5: [94.6, 1.1], 8: [95.8, 0.5]},
    ("omniglot_5way_online", "cpm", "table 1"): {1: [94.5, 0.1], 5: [97.0, 0.1], 8: [97.4, 0.4]},
    ("omniglot_5way_online", "cl_lstm", "table 1"): {1: [96.8, 0.5], 5: [99.4, 0.2], 8: [99.7, 0.2]},
    ("cifarfs_5way_online", "apl", "table 1"): {1: [37.6, 0.6], 5: [45.8, 0.4], 8: [46.9, 0.7]},
    ("cifarfs_5way_online", "opn", "table 1"): {1: [49.9, 0.2], 5: [54.9, 0.4], 8: [56.8, 0.1]},
    ("cifarfs_5way_online", "cpm", "table 1"): {1: [50.2, 0.2], 5: [55.8, 0.4], 8: [57.8, 0.4]},
    ("cifarfs_5way_online", "cl_lstm", "table 1"): {1: [47.6, 1.0], 5: [56.7, 1.6], 8: [61.0, 1.3]},
    ("omniglot_5way_online", "cnn_lstm", "frozen"): {1: [89.1, 0.2], 5: [96.4, 0.0], 8: [97.0, 0.2]},
    ("omniglot_5way_online", "cnn_lstm", "jointly"): {1: [93.9, 0.1], 5: [97.9, 0.2], 8: [98.2, 0.4]},
    ("omniglot_5way_online", "cl_lstm", "LSTM only"): {1: [94.7, 0.6], 5: [97.3, 0.7], 8: [97.9, 0.6]},
    ("omniglot_5way_online", "cl_lstm", "CL-1 and LSTM"): {1: [96.8, 0.5], 5: [99.4, 0.2], 8: [99.7, 0.2]},
    ("cifarfs_delay2", "cl_lstm", "scratch"): {6: [56.8, 0.1], 7: [58.4, 0.2], 8: [60.0, 0.0]},
    ("cifarfs_delay4", "cl_lstm", "scratch"): {6: [52.2, 0.4], 7: [53.1, 0.3], 8: [54.1, 0.4]},
    ("cifarfs_delay4", "cl_lstm", "pretrained"): {6: [56.1, 0.6], 7: [57.6, 0.3], 8: [59.0, 0.1]},
    ("cifarfs_delay5", "cl_lstm", "scratch"): {6: [51.1, 0.8], 7: [51.7, 0.7], 8: [52.7, 0.3]},
    ("cifarfs_delay5", "cl_lstm", "pretrained"): {6: [55.2, 0.3], 7: [56.4, 0.0], 8: [57.4, 0.4]},
}
"""Tables 1 to 3 of the layer-distributed-memory paper: mean and spread over runs, in per cent, by shot."""


@pytest.mark.parametrize("name", DIGESTS)
def test_the_meaning_of_a_shipped_protocol_never_changes(name: str) -> None:
    assert digest(load_protocol(name).protocol) == DIGESTS[name]


@pytest.mark.parametrize("name", protocol_files())
def test_every_shipped_protocol_is_valid_and_has_a_stand_in_that_can_hold_it(name: str) -> None:
    loaded = load_protocol(name)
    assert loaded.protocol.stand_in is not None
    assert CARDS[for_data(loaded, "stand-in").dataset].stand_in


def test_published_numbers_are_those_of_the_paper() -> None:
    rows = [(name, row) for name in DIGESTS for row in load_protocol(name).protocol.published]
    assert len(rows) == len(TABLES)
    for (name, method, mark), numbers in TABLES.items():
        fitting = [row for at, row in rows if (at, row.method) == (name, method) and mark in row.variant + row.source]
        fitting = [row for row in fitting if mark == "table 1" or row.variant]
        assert len(fitting) == 1, (name, method, mark)
        assert fitting[0].metrics == {f"accuracy@shot={shot}": pair for shot, pair in numbers.items()}
        assert fitting[0].note.startswith(f"std over {2 if 'delay' in name else 3} runs")


def test_published_metrics_are_those_the_protocol_scores() -> None:
    for name in DIGESTS:
        protocol = load_protocol(name).protocol
        scored = {f"accuracy@shot={shot}" for shot in protocol.scoring.shots}  # type: ignore[union-attr]
        assert all(set(row.metrics) == scored for row in protocol.published)


def test_a_published_value_may_stand_alone_or_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "extends: cifarfs_delay5\npublished:\n- {method: a, source: b, metrics: {x: 55, y: 55.5, z: [55, 1]}}\n"
    )
    (row,) = load_protocol(path).protocol.published
    assert row.metrics == {"x": 55.0, "y": 55.5, "z": [55.0, 1.0]}


# The JSON Schema.

CHECK = jsonschema.Draft202012Validator(file_schema())


def problems(data: dict[str, Any]) -> list[str]:
    return [error.message for error in CHECK.iter_errors(data)]


def base(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "delayed_label",
        "title": "x",
        "dataset": "cifar_fs",
        "episode": {"ways": 5, "presentations": 10, "label_delay": 3},
        "scoring": {"shots": [1]},
        **changes,
    }


def test_the_schema_is_a_schema_and_shipped_protocols_fit_it() -> None:
    jsonschema.Draft202012Validator.check_schema(file_schema())
    json.dumps(file_schema())
    for path in protocol_files().values():
        assert problems(read_yaml(path).data) == [], path
    assert any("extends" in read_yaml(path).data for path in protocol_files().values())


@pytest.mark.parametrize(
    "data",
    [
        base(title=None),
        base(episode={"ways": 5, "presentations": 10}),
        base(episode={"ways": 0, "presentations": 10, "label_delay": 3}),
        base(episode={"ways": 5, "presentations": 10, "label_delay": 1}),
        base(extra=1),
        base(kind="other"),
        base(published=[{"method": "a", "source": "b", "metrics": {"x": "high"}}]),
        {"extends": "a.yaml", "episode": {"ways": 0}},
        {"extends": "a.yaml", "episode": {"wayz": 2}},
        {"extends": "a.yaml", "kind": "other"},
        {"extends": 5},
        {"extends": "a.yaml", "unknown": 5},
        {"extends": "a.yaml", "published": [{"method": "a"}]},
        {"title": "x"},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(data: dict[str, Any], tmp_path: Path) -> None:
    assert problems(data)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(base()))
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(YamlError):
        load_protocol(path)


@pytest.mark.parametrize(
    "data",
    [
        base(),
        base(episode={"ways": 5, "presentations": 10, "label_delay": 3, "order": "iid"}),
        {"extends": "a.yaml"},
        {"extends": "a.yaml", "title": "y", "episode": {"label_delay": 7}, "scoring": {"test_episodes": 5}},
    ],
)
def test_the_schema_accepts_what_the_loader_accepts(data: dict[str, Any], tmp_path: Path) -> None:
    assert problems(data) == []
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(base()))
    path = tmp_path / "b.yaml"
    path.write_text(yaml.safe_dump(data))
    load_protocol(path)


def test_the_schema_without_extends_is_that_of_the_models() -> None:
    models, files = json_schema(), file_schema()
    assert files["else"] == {key: value for key, value in models.items() if key not in {"$schema", "title", "$defs"}}
    assert PROTOCOL.validate_python(base()).kind == "delayed_label"
