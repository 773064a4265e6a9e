"""What lint finds in protocols and data sets that were spoiled on purpose, and that it leaves good ones alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import main
from harness.data.dataset import Dataset
from harness.lint import ERROR, NOTE, WARNING, Finding, lint
from harness.lint.images import data_findings
from harness.protocol.load import Loaded, load_protocol
from harness.protocol.models import PROTOCOL
from harness.testing import tiny_dataset
from harness.util.shipped_files import protocol_files


def found(
    kind: str,
    episode: dict[str, Any],
    shots: list[int] | None = None,
    dataset: Dataset | None = None,
    data_set: str = "glyphs",
    **more: Any,
) -> list[Finding]:
    scoring: dict[str, Any] = {"test_episodes": 500} | ({"shots": shots} if shots else {})
    data = {"kind": kind, "title": "x", "dataset": data_set, "episode": episode, "scoring": scoring, **more}
    return list(lint(Loaded("mine", Path("mine.yaml"), PROTOCOL.validate_python(data)), dataset))


def grave(findings: list[Finding], severity: str = ERROR) -> list[str]:
    return [each.message for each in findings if each.severity == severity]


def test_a_delay_equal_to_the_period_of_the_class_order_lets_copy_last_score_everything() -> None:
    episode = {"ways": 5, "presentations": 10, "order": "cyclic", "label_delay": 5}
    (message,) = grave(found("delayed_label", episode, [1, 5]))
    assert "'copy_last'" in message
    assert "earns 100.0 %" in message
    assert "cyclic" in message


@pytest.mark.parametrize("delay", [1, 2, 3, 7])
def test_a_cyclic_order_is_found_whatever_the_delay(delay: int) -> None:
    episode: dict[str, Any] = {"ways": 5, "presentations": 10, "order": "cyclic"}
    kind = "delayed_label" if delay > 1 else "online_few_shot"
    messages = grave(found(kind, episode | ({"label_delay": delay} if delay > 1 else {}), [2, 5]))
    back = 5 if delay <= 5 else 10
    assert any(f"'the label of {back} steps ago'" in each and "earns 100.0 %" in each for each in messages)


@pytest.mark.parametrize("delay", range(2, 7))
def test_a_random_order_has_no_period(delay: int) -> None:
    findings = found("delayed_label", {"ways": 5, "presentations": 10, "label_delay": delay}, [5, 6, 7, 8])
    assert not [each for each in map(str, findings) if "steps ago" in each]


def test_counting_in_a_balanced_stream_is_a_note_with_its_measured_score() -> None:
    findings = found("online_few_shot", {"ways": 5, "presentations": 10}, [1, 5, 8])
    assert not grave(findings)
    assert not grave(findings, WARNING)
    (count,) = [each for each in grave(findings, NOTE) if "'count'" in each]
    assert 28.0 < float(count.split("earns ")[1].split(" %")[0]) < 31.0


def test_two_ways_shown_twice_are_mostly_counting() -> None:
    findings = found("online_few_shot", {"ways": 2, "presentations": 2}, [1])
    assert any("'count'" in each for each in grave(findings, WARNING) + grave(findings))


@pytest.mark.parametrize(
    ("kind", "episode", "shots"),
    [
        ("online_few_shot", {"ways": 1, "presentations": 5}, [1]),
        ("n_way_k_shot", {"ways": 1, "shots": 2, "queries": 2}, None),
        ("continual", {"subtasks": 1, "shots": 2, "queries": 2}, None),
    ],
)
def test_one_way_is_no_question(kind: str, episode: dict[str, Any], shots: list[int] | None) -> None:
    assert any("every answer is right" in each for each in grave(found(kind, episode, shots)))


def test_labels_that_never_come_are_an_error() -> None:
    episode = {"ways": 3, "presentations": 4, "label_delay": 12}
    assert any("no label is ever revealed" in each for each in grave(found("delayed_label", episode, [1])))


def test_a_shot_at_which_no_label_of_the_class_can_be_known_is_an_error() -> None:
    # Classes take turns, three steps apart, and labels are seven steps late: 2-shot comes before the first label.
    episode = {"ways": 3, "presentations": 6, "order": "cyclic", "label_delay": 7}
    messages = grave(found("delayed_label", episode, [2, 4]))
    assert any("at 2-shot no label of the class is ever known" in each for each in messages)
    assert not any("at 4-shot" in each for each in messages)


def test_a_shot_mostly_asked_before_any_label_is_a_warning() -> None:
    findings = found("delayed_label", {"ways": 5, "presentations": 10, "label_delay": 12}, [1, 8])
    (message,) = [each for each in grave(findings, WARNING) if "1-shot" in each]
    assert "before any label of the class is known" in message


def test_zero_shot_few_episodes_and_a_split_used_up_are_warnings() -> None:
    assert any(
        "0-shot" in each for each in grave(found("online_few_shot", {"ways": 3, "presentations": 4}, [0]), WARNING)
    )
    few = found("n_way_k_shot", {"ways": 3, "shots": 1, "queries": 2}, scoring={"test_episodes": 20})
    assert any("20 episodes" in each for each in grave(few, WARNING))
    all_classes = found(
        "n_way_k_shot", {"ways": 8, "shots": 1, "queries": 2}, dataset=tiny_dataset("glyphs", classes=8)
    )
    assert any("same 8 classes" in each for each in grave(all_classes, WARNING))


def test_shots_that_drawn_order_rarely_reaches_are_a_warning() -> None:
    findings = found("online_few_shot", {"ways": 5, "presentations": 4, "order": "iid"}, [1, 12])
    assert any("12-shot" in each for each in grave(findings, WARNING) + grave(findings))


def test_a_published_metric_that_the_protocol_does_not_report_is_a_warning() -> None:
    printed = {"method": "maml", "source": "somewhere", "metrics": {"accuracy@shot=1": 50.0, "query_accuracy": 50.0}}
    findings = found("n_way_k_shot", {"ways": 5, "shots": 1, "queries": 5}, published=[printed])
    (message,) = grave(findings, WARNING)
    assert "accuracy@shot=1" in message


@pytest.mark.parametrize("name", sorted(protocol_files()))
def test_no_shipped_protocol_is_spoiled(name: str) -> None:
    findings = lint(load_protocol(name), None)
    assert not grave(list(findings))
    assert not grave(list(findings), WARNING)


def test_a_clean_data_set_has_no_findings() -> None:
    assert not list(data_findings(tiny_dataset("glyphs")))


def with_table(dataset: Dataset, split: str, **changes: Any) -> Dataset:
    return replace(dataset, tables={**dataset.tables, split: replace(dataset.tables[split], **changes)})


def test_a_class_in_two_splits_is_an_error() -> None:
    data = tiny_dataset("glyphs")
    names = (data.tables["train"].names[2], *data.tables["test"].names[1:])
    (finding,) = data_findings(with_table(data, "test", names=names))
    assert (finding.severity, finding.subject) == (ERROR, "splits")
    assert "train class 2" in finding.message


def test_an_image_in_two_splits_is_an_error() -> None:
    data = tiny_dataset("glyphs")
    members = data.tables["test"].members.copy()
    members[3] = data.tables["train"].members[0]
    (finding,) = data_findings(with_table(data, "test", members=members))
    assert finding.severity == ERROR
    assert "1 image is in both train and test: tiny-0" in finding.message


def test_identical_pixels_are_a_warning_across_splits_and_a_note_within_one() -> None:
    data = tiny_dataset("glyphs")
    images = data.images.copy()
    first, second = (int(data.tables[split].members[0]) for split in ("train", "test"))
    images[second] = images[first]
    images[first + 1] = images[first + 2]
    across, within = sorted(data_findings(replace(data, images=images)), key=lambda each: each.severity, reverse=True)
    assert across.severity == WARNING
    assert f"images of train is also in test, pixel by pixel: tiny-{first} = tiny-{second}" in across.message
    assert within.severity == NOTE
    assert f"the same as an earlier one of train, pixel by pixel: tiny-{first + 2} = tiny-{first + 1}" in within.message


def test_images_that_two_splits_share_are_one_finding_that_counts_images_and_not_pairs() -> None:
    """Two images of one split may be one of the other; seen from either side their number would be another."""
    data = tiny_dataset("glyphs")
    images = data.images.copy()
    train, test = (data.tables[split].members for split in ("train", "test"))
    images[test[:6]] = images[train[:6]]
    images[test[6]] = images[train[0]]
    (finding,) = (each for each in data_findings(replace(data, images=images)) if each.severity == WARNING)
    assert finding.message.startswith(f"6 of {len(train)} images of train are also in test, pixel by pixel: ")


def test_supervised_splits_must_have_the_same_classes() -> None:
    data = tiny_dataset("glyphs")
    shared = replace(data, card=replace(data.card, disjoint=False))
    assert any("same classes" in each.message for each in data_findings(shared))


def test_on_masks_the_blind_learners_are_played_on_the_data() -> None:
    data = tiny_dataset("scenes")
    assert data.masks is not None
    masks = np.zeros_like(data.masks)
    masks[..., : masks.shape[-2] // 2, :] = 1
    halved = replace(data, masks=masks)
    findings = found("segmentation_distractors", {"presentations": 4}, [1, 2], dataset=halved, data_set="scenes")
    earned = {each.split("'")[1]: float(each.split("earns ")[1].split(" %")[0]) for each in grave(findings, NOTE)}
    assert earned["all_background"] == 50.0
    assert earned["all_foreground"] == 25.0


def write(folder: Path, order: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(
        "kind: delayed_label\ntitle: x\ndataset: cifar_fs\n"
        f"episode: {{ways: 5, presentations: 10, label_delay: 5, order: {order}}}\nscoring: {{shots: [6]}}\n"
    )
    return path


def test_the_command_fails_on_errors_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    assert main(["lint", "cifarfs_delay5"]) == 0
    assert "no errors" in capsys.readouterr().out
    spoiled = str(write(tmp_path, "cyclic"))
    assert main(["lint", spoiled, "--json"]) == 3
    (first, *_) = json.loads(capsys.readouterr().out)
    assert (first["severity"], first["subject"]) == ("error", "learners")


def test_validation_is_strict_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    spoiled = str(write(tmp_path, "cyclic"))
    assert main(["validate", spoiled]) == 0
    assert main(["validate", spoiled, "--strict"]) == 3
    assert "copy_last" in capsys.readouterr().err
    assert main(["validate", str(write(tmp_path, "balanced")), "--strict"]) == 0
