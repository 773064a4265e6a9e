"""The shipped protocols: valid, of fixed meaning, with the numbers that the papers print; and their JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from harness.data.cards import CARDS, Card
from harness.protocol.json_schema import file_schema
from harness.protocol.load import for_data, inherited, load_protocol
from harness.protocol.models import PROTOCOL, json_schema
from harness.util.shipped_files import protocol_files
from harness.yaml_files.document import YamlError, read_yaml

DIGESTS = {
    "cifarfs_5way_online": "d4fc8d52dcf2455a99a4dcf76526c38d071a080adbdc4484f83204721fefdce9",
    "cifarfs_delay2": "a2f65b726f4c5c415f8ad2071e0847efa6c40a57dd538d58fc705576e8d76213",
    "cifarfs_delay4": "b0cfffc6d599728c2f9c5b1196ddd7b189e653c4b4001915a5871f62ba55ad36",
    "cifarfs_delay5": "575b12fccd656fd6bba9dc755d0f28dfa761c831be08f0411623fa0e1a9d95e8",
    "omniglot_5way_online": "7e1d4744661b2906135a7ccab1da02cfdb18ba0ca4a5398ccc2d6d2397f47ff7",
}
"""Boards hold rows of these digests: a shipped protocol is never changed in meaning, a new one gets a new name."""

SHAPES: dict[str, tuple[str, str, dict[str, Any], list[int]]] = {
    "cifar10_supervised": ("supervised", "cifar10", {}, []),
    "cifar100_supervised": ("supervised", "cifar100", {}, []),
    "cifarfs_5way_1shot": ("n_way_k_shot", "cifar_fs", {"ways": 5, "shots": 1, "queries": 15}, []),
    "cifarfs_5way_5shot": ("n_way_k_shot", "cifar_fs", {"ways": 5, "shots": 5, "queries": 15}, []),
    "cifarfs_5way_iid": ("online_few_shot", "cifar_fs", {"ways": 5, "presentations": 10, "order": "iid"}, [1, 5, 8]),
    "cifarfs_5way_online": ("online_few_shot", "cifar_fs", {"ways": 5, "presentations": 10}, [1, 5, 8]),
    "cifarfs_delay2": ("delayed_label", "cifar_fs", {"ways": 5, "presentations": 10, "label_delay": 2}, [6, 7, 8]),
    "cifarfs_delay4": ("delayed_label", "cifar_fs", {"ways": 5, "presentations": 10, "label_delay": 4}, [6, 7, 8]),
    "cifarfs_delay5": ("delayed_label", "cifar_fs", {"ways": 5, "presentations": 10, "label_delay": 5}, [6, 7, 8]),
    "fss1000_distractors": ("segmentation_distractors", "fss1000", {"presentations": 9, "distractor": True}, [1, 6]),
    "fss1000_plain": ("segmentation_distractors", "fss1000", {"presentations": 9, "distractor": False}, [1, 6]),
    "miniimagenet_5way_1shot": ("n_way_k_shot", "mini_imagenet", {"ways": 5, "shots": 1, "queries": 15}, []),
    "miniimagenet_5way_5shot": ("n_way_k_shot", "mini_imagenet", {"ways": 5, "shots": 5, "queries": 15}, []),
    "omniglot_20way_1shot": ("n_way_k_shot", "omniglot", {"ways": 20, "shots": 1, "queries": 15}, []),
    "omniglot_20way_5shot": ("n_way_k_shot", "omniglot", {"ways": 20, "shots": 5, "queries": 15}, []),
    "omniglot_5way_iid": ("online_few_shot", "omniglot", {"ways": 5, "presentations": 10, "order": "iid"}, [1, 5, 8]),
    "omniglot_5way_online": ("online_few_shot", "omniglot", {"ways": 5, "presentations": 10}, [1, 5, 8]),
    "omniglot_continual5": ("continual", "omniglot_lake", {"subtasks": 5, "shots": 5, "queries": 15}, []),
    "omniglot_continual10": ("continual", "omniglot_lake", {"subtasks": 10, "shots": 5, "queries": 15}, []),
    "omniglot_continual15": ("continual", "omniglot_lake", {"subtasks": 15, "shots": 5, "queries": 15}, []),
    "omniglot_continual20": ("continual", "omniglot_lake", {"subtasks": 20, "shots": 5, "queries": 15}, []),
    "omniglot_delay2": ("delayed_label", "omniglot", {"ways": 5, "presentations": 10, "label_delay": 2}, [6, 7, 8]),
    "omniglot_delay4": ("delayed_label", "omniglot", {"ways": 5, "presentations": 10, "label_delay": 4}, [6, 7, 8]),
    "omniglot_delay5": ("delayed_label", "omniglot", {"ways": 5, "presentations": 10, "label_delay": 5}, [6, 7, 8]),
}
"""Every experiment of both papers, and the variants beside them: kind, data set, episode, scored shots."""

OMNIGLOT, CIFARFS = "omniglot_5way_online", "cifarfs_5way_online"
STREAMS = {
    (OMNIGLOT, "lstm", "", 1): {1: [85.3, 0.2], 5: [94.4, 0.1], 8: [95.8, 0.6]},
    (OMNIGLOT, "ntm", "", 1): {1: [88.7, 0.5], 5: [96.8, 0.1], 8: [97.3, 0.1]},
    (OMNIGLOT, "apl", "", 1): {1: [89.1, 0.0], 5: [94.9, 0.0], 8: [95.7, 0.1]},
    (OMNIGLOT, "opn", "", 1): {1: [91.2, 1.1], 5: [94.6, 1.1], 8: [95.8, 0.5]},
    (OMNIGLOT, "cpm", "", 1): {1: [94.5, 0.1], 5: [97.0, 0.1], 8: [97.4, 0.4]},
    (OMNIGLOT, "cl_lstm", "", 1): {1: [96.8, 0.5], 5: [99.4, 0.2], 8: [99.7, 0.2]},
    (CIFARFS, "apl", "", 1): {1: [37.6, 0.6], 5: [45.8, 0.4], 8: [46.9, 0.7]},
    (CIFARFS, "opn", "", 1): {1: [49.9, 0.2], 5: [54.9, 0.4], 8: [56.8, 0.1]},
    (CIFARFS, "cpm", "", 1): {1: [50.2, 0.2], 5: [55.8, 0.4], 8: [57.8, 0.4]},
    (CIFARFS, "cl_lstm", "", 1): {1: [47.6, 1.0], 5: [56.7, 1.6], 8: [61.0, 1.3]},
    (OMNIGLOT, "cnn_lstm", "frozen", 2): {1: [89.1, 0.2], 5: [96.4, 0.0], 8: [97.0, 0.2]},
    (OMNIGLOT, "cnn_lstm", "jointly", 2): {1: [93.9, 0.1], 5: [97.9, 0.2], 8: [98.2, 0.4]},
    (OMNIGLOT, "cl_lstm", "LSTM only", 2): {1: [94.7, 0.6], 5: [97.3, 0.7], 8: [97.9, 0.6]},
    (OMNIGLOT, "cl_lstm", "CL-1 and LSTM", 2): {1: [96.8, 0.5], 5: [99.4, 0.2], 8: [99.7, 0.2]},
    ("cifarfs_delay2", "cl_lstm", "scratch", 3): {6: [56.8, 0.1], 7: [58.4, 0.2], 8: [60.0, 0.0]},
    ("cifarfs_delay4", "cl_lstm", "scratch", 3): {6: [52.2, 0.4], 7: [53.1, 0.3], 8: [54.1, 0.4]},
    ("cifarfs_delay4", "cl_lstm", "pretrained", 3): {6: [56.1, 0.6], 7: [57.6, 0.3], 8: [59.0, 0.1]},
    ("cifarfs_delay5", "cl_lstm", "scratch", 3): {6: [51.1, 0.8], 7: [51.7, 0.7], 8: [52.7, 0.3]},
    ("cifarfs_delay5", "cl_lstm", "pretrained", 3): {6: [55.2, 0.3], 7: [56.4, 0.0], 8: [57.4, 0.4]},
}
"""Tables 1 to 3 of Babu et al.: mean and spread over runs, by shot. Keys end in a part of the variant and the table."""

SEGMENTATION = {
    ("finetuned_cnn", "MAML"): ((65.3, 64.0), (23.1, 23.6)),
    ("cl_unet", "layer 9"): ((38.7, 45.7), (73.8, 77.8)),
    ("cl_unet", "layer 1"): ((49.2, 56.0), (84.6, 91.7)),
}
"""Table 4 of Babu et al.: segmentation and masking at 1 and 6 shots."""

SUPERVISED = {
    ("vgg11", ""): (9.2, 91.5, 66.9),
    ("cl_vgg11", "0.5"): (20.0, 91.5, 67.3),
    ("cl_vgg11", "0.35"): (9.5, 90.7, 64.3),
    ("resnet20", ""): (0.3, 91.9, 68.1),
    ("cl_resnet20", "0.5"): (0.6, 90.9, 63.2),
    ("cl_resnet20", "0.35"): (0.3, 89.5, 58.8),
}
"""Table 5 of Babu et al.: million parameters, accuracy on CIFAR-10 and CIFAR-100."""

CONTINUAL = {
    "anml": {"query_accuracy@earlier": 91.78, "query_accuracy@last": 56.0},
    "cl_lstm": {"query_accuracy@earlier": 93.15},
}
"""The caption of figure 4 of Babu et al.: what is printed of 20 subtasks."""

MINI_IMAGENET: dict[str, tuple[list[float], list[float] | None]] = {
    "matching_net": ([43.56, 0.84], [55.31, 0.73]),
    "meta_learner_lstm": ([43.44, 0.77], [60.60, 0.71]),
    "maml": ([48.70, 1.84], [63.11, 0.92]),
    "llama": ([49.40, 1.83], None),
    "reptile": ([49.97, 0.32], [65.99, 0.58]),
    "platipus": ([50.13, 1.86], None),
    "snail": ([55.71, 0.99], [68.88, 0.92]),
    "gidaris": ([56.20, 0.86], [73.00, 0.64]),
    "bauer": ([56.30, 0.40], [73.90, 0.30]),
    "csn": ([57.10, 0.70], [70.04, 0.63]),
    "deml": ([58.49, 0.91], [71.28, 0.69]),
    "ppa": ([59.60, 0.41], [73.74, 0.19]),
    "norml": ([60.2, 0.91], [74.1, 0.71]),
}
"""Table 1 of the NORML paper: accuracy and its interval, 1-shot and 5-shot."""

OMNIGLOT_20WAY = {
    ("maml", "constant"): (86.3, 95.7),
    ("maml", "one learned"): (86.5, 95.7),
    ("maml", "each layer"): (87.1, 96.0),
    ("norml", "hidden and cell"): (86.3, 95.7),
    ("norml", "zero cell"): (86.3, 95.7),
    ("norml", "zero hidden state"): (87.9, 96.5),
    ("norml", "full"): (90.3, 97.2),
}
"""Table 2 of the NORML paper: accuracy, 1-shot and 5-shot."""

NOTES = [
    ("omniglot_continual20", "anml", "about 56 %"),
    ("fss1000_distractors", "cl_unet", "our reading"),
    ("miniimagenet_5way_1shot", "matching_net", "full context embeddings"),
    ("miniimagenet_5way_5shot", "meta_learner_lstm", "56.6 to 58.1 %"),
    ("miniimagenet_5way_1shot", "maml", "transductive"),
    ("miniimagenet_5way_5shot", "reptile", "transductive"),
    ("miniimagenet_5way_1shot", "gidaris", "Conv128"),
    ("miniimagenet_5way_5shot", "bauer", "ResNet-34"),
    ("miniimagenet_5way_1shot", "csn", "56.88 %"),
    ("miniimagenet_5way_5shot", "csn", "71.94 %"),
    ("miniimagenet_5way_1shot", "deml", "further ImageNet data"),
    ("miniimagenet_5way_1shot", "ppa", "59.06 %"),
    ("miniimagenet_5way_5shot", "ppa", "validation classes"),
    ("omniglot_20way_1shot", "norml", "fully-connected"),
]
"""What makes a published number hard to compare is said beside it."""

BABU, NORML = "Babu et al. 2021", "van Niekerk 2019"


def expected() -> dict[tuple[str, str, str, str], dict[str, Any]]:
    """Protocol, method, a part of the variant ('' for none at all) and source, to metrics; numbers as above."""
    rows: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for (name, method, mark, table), by_shot in STREAMS.items():
        rows[name, method, mark, f"{BABU}, table {table}"] = {f"accuracy@shot={k}": by_shot[k] for k in by_shot}
    for (method, mark), pair in SEGMENTATION.items():
        rows["fss1000_distractors", method, mark, f"{BABU}, table 4"] = {
            f"{metric}@shot={k}": value
            for metric, values in zip(("iou", "masking"), pair, strict=True)
            for k, value in zip((1, 6), values, strict=True)
        }
    for (method, mark), (_, *both) in SUPERVISED.items():
        for name, value in zip(("cifar10_supervised", "cifar100_supervised"), both, strict=True):
            rows[name, method, mark, f"{BABU}, table 5"] = {"accuracy": value}
    for method, metrics in CONTINUAL.items():
        rows["omniglot_continual20", method, "", f"{BABU}, figure 4"] = dict(metrics)
    for i, shots in enumerate((1, 5)):
        for method, values in MINI_IMAGENET.items():
            if values[i] is not None:
                key = (f"miniimagenet_5way_{shots}shot", method, "", f"{NORML}, table 1")
                rows[key] = {"query_accuracy": values[i]}
        for (method, mark), numbers in OMNIGLOT_20WAY.items():
            key = (f"omniglot_20way_{shots}shot", method, mark, f"{NORML}, table 2")
            rows[key] = {"query_accuracy": numbers[i]}
    return rows


@pytest.mark.parametrize("name", DIGESTS)
def test_the_meaning_of_a_shipped_protocol_never_changes(name: str) -> None:
    assert load_protocol(name).protocol.digest == DIGESTS[name]


def test_every_experiment_is_shipped() -> None:
    assert set(protocol_files()) == set(SHAPES)


@pytest.mark.parametrize("name", protocol_files())
def test_a_shipped_protocol_is_the_experiment_of_its_name(name: str) -> None:
    kind, dataset, episode, shots = SHAPES[name]
    protocol = load_protocol(name).protocol
    assert (protocol.kind, protocol.dataset) == (kind, dataset)
    shape: dict[str, Any] = {"order": "balanced"} if kind in {"online_few_shot", "delayed_label"} else {}
    assert protocol.episode.model_dump() == shape | episode
    assert getattr(protocol.scoring, "shots", []) == shots
    if kind != "supervised":
        # The default of the model could change; the digest of a file that leaves it out would change with it.
        assert "test_episodes" in inherited(protocol_files()[name]).data["scoring"]


@pytest.mark.parametrize("name", protocol_files())
def test_every_shipped_protocol_fits_its_data_and_its_stand_in(name: str) -> None:
    loaded = load_protocol(name)
    stand_in = for_data(loaded, "stand-in")
    assert isinstance(stand_in.dataset, str)
    assert CARDS[stand_in.dataset].stand_in
    for protocol in (loaded.protocol, stand_in):
        card: Card = protocol.card
        assert card.masks or protocol.kind != "segmentation_distractors"
        assert card.disjoint == (protocol.kind != "supervised")


@pytest.mark.parametrize("name", protocol_files())
def test_every_shipped_protocol_says_in_a_comment_and_in_notes_what_it_is(name: str) -> None:
    text = protocol_files()[name].read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert all(len(line) <= 120 for line in text.splitlines())
    assert load_protocol(name).protocol.notes


def test_published_numbers_are_those_of_the_papers_and_no_others() -> None:
    rows = [(name, row) for name in protocol_files() for row in load_protocol(name).protocol.published]
    wanted = expected()
    for (name, method, mark, source), metrics in wanted.items():
        fitting = [
            row
            for at, row in rows
            if (at, row.method, row.source) == (name, method, source) and bool(mark) == bool(row.variant)
        ]
        fitting = [row for row in fitting if mark in row.variant]
        assert len(fitting) == 1, (name, method, mark, source)
        assert fitting[0].metrics == metrics, (name, method, mark, source)
    assert len(rows) == len(wanted)


@pytest.mark.parametrize("name", protocol_files())
def test_published_metrics_are_those_the_protocol_reports(name: str) -> None:
    protocol = load_protocol(name).protocol
    known = {protocol.ranking, *protocol.reported}
    for row in protocol.published:
        assert set(row.metrics) <= known
        if protocol.kind != "continual":
            assert set(row.metrics) == (set(protocol.reported) or known)


def test_what_a_spread_means_and_what_hinders_a_comparison_is_noted() -> None:
    for name in protocol_files():
        for row in load_protocol(name).protocol.published:
            spreads = any(isinstance(value, list) for value in row.metrics.values())
            assert not spreads or row.note.startswith(("std over", "± as printed")), (name, row.method)
            assert row.note, (name, row.method)
    for name in {key[0] for key in STREAMS}:
        runs = 2 if "delay" in name else 3
        assert all(row.note.startswith(f"std over {runs} runs") for row in load_protocol(name).protocol.published)
    for name, method, words in NOTES:
        found = [row for row in load_protocol(name).protocol.published if row.method == method]
        assert found
        assert all(words in row.note for row in found), (name, method)
    for name in ("cifar10_supervised", "cifar100_supervised"):
        for row in load_protocol(name).protocol.published:
            millions = SUPERVISED[row.method, row.variant][0]
            assert f"{millions} M parameters" in row.note


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


@pytest.mark.parametrize(
    ("kind", "dataset", "episode", "reason"),
    [
        ("segmentation_distractors", "cifar_fs", {"presentations": 3}, "masks.*fss1000, scenes"),
        ("supervised", "cifar_fs", {}, "same classes in train and test.*cifar10, cifar100, objects_supervised"),
        ("n_way_k_shot", "cifar10", {"ways": 2, "shots": 1, "queries": 1}, "not trained on.*omniglot"),
    ],
)
def test_a_kind_on_a_data_set_that_does_not_fit_is_refused_with_those_that_do(
    kind: str, dataset: str, episode: dict[str, Any], reason: str
) -> None:
    scoring = {"shots": [1]} if "presentations" in episode else {}
    data = {"kind": kind, "title": "x", "dataset": dataset, "episode": episode, "scoring": scoring}
    with pytest.raises(ValueError, match=f"dataset: kind {kind} on {dataset} needs .*{reason}"):
        PROTOCOL.validate_python(data)
